"""Images of one part: what is left is the part alone, at its own pose; RELION makes its map of them."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import roma
import torch

from cryoformer.decode.density_model import ConformationModel
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.fourier_images import FourierImages
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.imaging.ctf import CTFParameters, contrast_transfer
from cryoformer.imaging.fourier import images_to_fourier
from cryoformer.imaging.grids import crop_volume, grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.parts.density import PartDensities
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.parts.part_files import part_motion, part_table
from cryoformer.parts.subtract import images_of_part, part_views
from known_network import known_network
from toy_images import BOX, PIXEL, blob

COUNT = 200


def part_map() -> torch.Tensor:
    """Of no symmetry, in its own frame."""
    return blob((0.0, 0.0, 0.0), 7.0) + blob((14.0, 0.0, 0.0), 6.0) + 0.7 * blob((0.0, 10.0, 12.0), 6.0)


def lump() -> ConformationModel:
    """A network with a lump that grows with the latent."""

    def grown(z: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return (1 + 0.2 * z) * torch.exp(-(points - torch.tensor([-20.0, 0.0, -15.0])).square().sum(dim=1) / 128)

    return known_network(grown, torch.zeros(1))


@pytest.fixture(scope="module")
def swinging() -> tuple[FourierImages, MovingDensity, torch.Tensor, CTFParameters]:
    """Images without noise of a still body and a part that turns by up to some 40 degrees either way."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(COUNT, 1, generator=generator)
    terms = LatentTerms.of_population(latents)
    coefficients = torch.zeros(1, len(terms.scale), 6)
    coefficients[0, 0, 1], coefficients[0, 0, 4] = 0.4, 3.0
    still, part = blob((0.0, -15.0, 0.0), 12.0), part_map()
    density = MovingDensity(
        PartDensities(still, part[None], PIXEL),
        PartMotions(terms, torch.tensor([[5.0, 22.0, -5.0]]), coefficients),
        torch.ones(1, BOX, BOX, BOX),
        torch.stack([part, part])[None],
        torch.ones(1, BOX // 2),
    )
    rotations = roma.special_procrustes(torch.randn(COUNT, 3, 3, generator=generator))
    one = torch.ones(COUNT)
    defocus = 8000 + 6000 * torch.rand(COUNT, generator=generator)
    ctf = CTFParameters(defocus, defocus, 0 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one)
    volumes = torch.stack([torch.from_numpy(volume).reshape(-1) for volume in density.volumes(latents)])
    transfer = contrast_transfer(ctf, BOX, PIXEL)
    held = volumes.abs().amax(dim=0) > 1e-4
    seen = splat_project(volumes[:, held], grid_points(BOX, PIXEL)[held], rotations, None, BOX, PIXEL) * transfer
    images = FourierImages(
        rotations, one, torch.arange(COUNT) % 2, torch.ones(BOX // 2 + 1), PIXEL, PIXEL, seen, transfer
    )
    return images, density, latents, ctf


def test_what_is_left_is_the_part_alone_in_its_own_frame(swinging):
    images, density, latents, _ = swinging
    left = images_to_fourier(torch.cat(list(images_of_part(images, density, latents, 0))))
    views, _ = part_views(images.rotations, density.motions.at(latents), 0)
    part = part_map().reshape(1, -1).expand(COUNT, -1)
    wanted = splat_project(part, grid_points(BOX, PIXEL), views, None, BOX, PIXEL) * images.ctf
    error = (left - wanted).abs().square().sum() / wanted.abs().square().sum()
    assert error < 0.01


def test_poses_of_the_part_say_where_it_is_seen(swinging):
    images, density, latents, _ = swinging
    table = part_table(density, images.rotations, np.full((COUNT, 2), 1.5), latents)
    places = density.motions.at(latents)
    seen = (images.rotations @ places.centres[0][..., None])[:, :2, 0].numpy() + 1.5
    np.testing.assert_allclose(table[["x", "y"]].to_numpy(), seen, atol=1e-3)
    assert np.allclose(np.radians(table["turn"]), density.motions.vectors(latents)[0, :, 1].abs(), atol=1e-3)
    angle, axis, _ = part_motion(density.motions, 0, latents)
    assert abs(float(axis[1])) > 0.999
    low, high = np.quantile(density.motions.vectors(latents)[0, :, 1], [0.01, 0.99])
    assert angle == pytest.approx(np.degrees(high - low), rel=0.05)


@pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="RELION is not installed")
def test_relion_makes_the_map_of_the_part(swinging, tmp_path: Path):
    images, density, latents, ctf = swinging
    stack = torch.cat(list(images_of_part(images, density, latents, 0))).numpy()
    with mrcfile.new(tmp_path / "particles.mrcs") as file:
        file.set_data(stack)
        file.voxel_size = PIXEL
    views, _ = part_views(images.rotations, density.motions.at(latents), 0)
    names = [f"{row + 1:06d}@particles.mrcs" for row in range(COUNT)]
    write_particles_star(
        tmp_path / "particles.star", names, views.double().numpy(), np.zeros((COUNT, 2)), ctf, PIXEL, BOX
    )
    command = ["relion_reconstruct", "--i", "particles.star", "--o", "part.mrc", "--ctf", "--angpix", str(PIXEL)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = mrcfile.read(tmp_path / "part.mrc")
    ball = (grid_points(BOX, 1.0).norm(dim=1) < 9).numpy()
    assert np.corrcoef(found.reshape(-1)[ball], part_map().reshape(-1).numpy()[ball])[0, 1] > 0.95


def test_files_hold_the_poses_that_parts_have_of_their_own(swinging):
    images, density, latents, _ = swinging
    own = torch.zeros(1, COUNT, 6)
    own[0, :, 3] = 5.0
    density = MovingDensity.from_tensors(*replace(density, own_poses=own).tensors(), lump())
    none = np.zeros((COUNT, 2))
    with_own, without = (
        part_table(each, images.rotations, none, latents)[["x", "y"]].to_numpy()
        for each in (density, replace(density, own_poses=None))
    )
    np.testing.assert_allclose(with_own - without, 5 * images.rotations[:, :2, 0].numpy(), atol=1e-3)
    stacks = [
        torch.cat(list(images_of_part(images, replace(density, own_poses=each), latents, 0))) for each in (own, None)
    ]
    assert (stacks[0] - stacks[1]).abs().max() > 0.1 * stacks[1].abs().max()


def test_what_the_network_keeps_is_decoded_and_taken_off(swinging):
    images, density, latents, _ = swinging
    beside = replace(density, kept=lump())
    grown = next(lump().volumes(latents[:1]))
    volume, plain = (next(each.volumes(latents[:1])) for each in (beside, density))
    np.testing.assert_allclose(volume - plain, grown, atol=1e-5)
    again = MovingDensity.from_tensors(*beside.tensors(), lump())
    np.testing.assert_allclose(next(again.volumes(latents[:1])), volume, atol=1e-5)
    coarse = next(beside.at_box(16).volumes(latents[:1]))
    np.testing.assert_allclose(coarse, crop_volume(volume, 16, mean=True), atol=0.05)
    # Of images that show it, the part's are as they were without.
    shown = LinearMotion(torch.from_numpy(grown)[None] / (1 + 0.2 * float(latents[0])), -(1 + 0.2 * latents))
    of_both = torch.cat(list(images_of_part(images.minus_motion(shown.ready()), beside, latents, 0)))
    of_part = torch.cat(list(images_of_part(images, density, latents, 0)))
    assert (of_both - of_part).abs().max() < 0.03 * of_part.abs().max()
