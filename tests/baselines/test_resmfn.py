"""ResMFN: its bands, its gradients by rotations, a toy that it fits, and its folder."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoformer.baselines import resmfn
from cryoformer.baselines.folder import fit_baseline
from cryoformer.baselines.resmfn_model import ResidualMFN
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings
from cryoformer.imaging.grids import crop_volume
from cryoformer.imaging.slices import SlicePlane
from cryoformer.poses.posterior import SlopedDensity, turned
from toy_images import BOX, simulate

STILL = simulate(200, noise=0.3, seed=2, moves=False)
DENSITY = STILL.density(0.5)


def test_every_band_reaches_beyond_the_one_before_and_no_farther() -> None:
    torch.manual_seed(0)
    bands = (2.0, 6.6, 21.78)
    network = ResidualMFN(bands, width=400)
    reach = network.first.frequencies.abs().amax(dim=0)
    for number, band in enumerate(bands):
        before, frequencies = reach, network.filters[number].frequencies
        reach = reach + frequencies.abs().amax(dim=0)
        assert (reach <= 2 * math.pi * band + 1e-4).all()
        assert (reach > 0.95 * 2 * math.pi * band).all()
        # Along one axis at least, whatever comes of it is above nearly all that there was.
        assert number == 0 or (frequencies.abs().amax(dim=1) > 1.6 * before.max()).all()


def test_a_wider_band_adds_to_a_narrower_one() -> None:
    torch.manual_seed(0)
    network, points = ResidualMFN((1.0, 3.3), width=16), torch.rand(50, 3) - 0.5
    narrow, wide = network(points, 1), network(points, 2)
    assert (wide >= narrow).all()
    with torch.no_grad():
        network.outputs[1].weight.zero_()
        network.outputs[1].bias.fill_(-1.0)
    torch.testing.assert_close(network(points, 2), narrow)


def test_gradients_by_rotations_are_those_of_finite_differences() -> None:
    images, density = STILL.images.take(torch.arange(6)), SlopedDensity(DENSITY[None], STILL.images.pixel_size_angstrom)

    def error(turn: torch.Tensor) -> torch.Tensor:
        plane = SlicePlane.of_box(images.box)
        deviation = images.slice_deviation(plane)
        value, _ = density.project(turned(images.rotations, turn), torch.zeros(6, 0), images.scale)
        residual = (plane.take(images.coefficients) - plane.take(images.ctf) * value) / deviation
        return residual.abs().square().sum(dim=1)

    off = 0.2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    rotations = turned(images.rotations, off)
    exact = resmfn.rotation_gradient(images, density, rotations)
    images = replace(images, rotations=rotations)
    step = 0.02
    found = torch.stack(
        [(error(step * axis.expand(6, 3)) - error(-step * axis.expand(6, 3))) / (2 * step) for axis in torch.eye(3)],
        dim=1,
    )
    # Slices are interpolated linearly, so differences of theirs are those of a broken line.
    torch.testing.assert_close(exact, found, rtol=0.1, atol=0.05 * float(found.abs().max()))


def test_one_band_at_true_rotations_recovers_a_toy() -> None:
    torch.manual_seed(0)
    images = STILL.images.crop(12)
    training = resmfn.Training(images, resmfn.Settings(epochs=(1,), width=64, learning_rate=1e-2))
    errors = [training.step(images) for _ in range(100)]
    assert errors[-1] < errors[0]
    # The molecule is smooth, and a box of 12 pixels holds nearly all of it.
    volume, true = training.volume(12, 1).detach(), crop_volume(DENSITY, 12)
    assert np.corrcoef(volume.flatten(), true.flatten())[0, 1] > 0.97


def test_rotations_that_are_off_come_nearer() -> None:
    torch.manual_seed(0)
    images = STILL.images.take(torch.arange(40))
    training = resmfn.Training(images, resmfn.Settings(epochs=(1,), width=16, pose_steps=20))
    training.volume = lambda box, band: DENSITY  # type: ignore[method-assign]
    off = 0.15 * torch.randn(40, 3, generator=torch.Generator().manual_seed(3))
    turned_away = replace(images, rotations=turned(images.rotations, off))
    before, after = (
        ((turned_away.rotations if some is None else some) @ images.rotations.transpose(1, 2) - torch.eye(3)).norm(
            dim=(1, 2)
        )
        for some in (None, training.turn(turned_away))
    )
    assert after.median() < 0.5 * before.median()


def test_a_fit_leaves_a_density_and_rotations(stack: Path, tmp_path: Path) -> None:
    settings = {"epochs": (1, 1, 1), "width": 16, "pose_steps": 2, "batch": 200, "warm_up": 3}
    found = fit_baseline(
        "resmfn",
        ParticleInput(stack / "particles.star"),
        tmp_path / "fit",
        reading=ImageSettings(invert="no"),
        settings=settings,
    )
    assert found.latents.shape == (400, 0)
    assert found.facts["found"]["epochs"] == [1.0, 1.0, 1.0]
    (volume,) = found.decode(np.zeros((1, 0)))
    assert volume.shape == (BOX,) * 3
    assert volume.std() > 0
    with np.load(tmp_path / "fit" / resmfn.POSES_FILE) as read:
        rotations = read["rotations"]
    np.testing.assert_allclose(rotations @ np.swapaxes(rotations, 1, 2), np.tile(np.eye(3), (400, 1, 1)), atol=1e-5)


def test_time_is_shared_among_the_bands(stack: Path, tmp_path: Path) -> None:
    found = fit_baseline(
        "resmfn",
        ParticleInput(stack / "particles.star"),
        tmp_path / "fit",
        max_minutes=1e-6,
        reading=ImageSettings(invert="no"),
        settings={"width": 16, "pose_steps": 1, "batch": 100, "warm_up": 0},
    )
    assert found.facts["found"]["epochs"] == [0.25, 0.25, 0.25]


def test_the_density_is_found_before_rotations_are_touched() -> None:
    torch.manual_seed(0)
    images, generator = STILL.images.crop(12), torch.Generator().manual_seed(0)
    training = resmfn.Training(images, resmfn.Settings(epochs=(1,), width=32, learning_rate=1e-2, warm_up=20))
    window = resmfn.blur(images, training.bands[0])
    before = float(training.error(images).detach())
    resmfn._warm_up(training, images, window, generator)
    assert float(training.error(images).detach()) < 0.5 * before
    torch.testing.assert_close(training.rotations, images.rotations)


def test_images_are_blurred_to_their_band() -> None:
    images = STILL.images
    window = resmfn.blur(images, 6.0)
    assert window[0, 0] == 1
    assert window[0, 4] == pytest.approx(math.exp(-0.5))
    assert window[3, 9] < 0.1
    rows = torch.tensor([3, 1])
    training = resmfn.Training(images, resmfn.Settings(epochs=(1,), width=8))
    training.rotations[1] = torch.eye(3)
    taken = resmfn._taken(training, images, window, rows)
    torch.testing.assert_close(taken.coefficients, images.coefficients[rows] * window)
    torch.testing.assert_close(taken.rotations, torch.stack([images.rotations[3], torch.eye(3)]))
