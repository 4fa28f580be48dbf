"""A run that is told where to look: what moves elsewhere stays in the still density, and in the images' noise."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cryoformer.assess.heterogeneity import latent_scores
from cryoformer.checkpoint import load_tensors
from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume, write_mrc_volume
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.imaging.grids import grid_points, resample_volume
from cryoformer.imaging.projection import splat_project
from cryoformer.linear.regions import regions_of_run
from cryoformer.run.images import images_of_run
from cryoformer.run.run_folder import RunPaths, open_run
from cryoformer.run.train import train
from cryoformer.training.train_config import load_config
from cryoformer.validate.validated import opened
from toy_images import BOX, PIXEL, SMALL, blob, moving_centre, simulate, write_particles

COUNT = 500
SHORT = SMALL | {"stages": [{"box": 24, "epochs": 4, "batch": 32}]}
# The network's density is filtered once more after its window was applied.
RIPPLE = 0.1


def other_centre(t: float) -> tuple[float, float, float]:
    """Of a second blob, far from the first."""
    return (-30.0, 5.0, 40.0 * (t - 0.5))


def sphere(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    distance = (grid_points(BOX, PIXEL) - torch.tensor(centre)).norm(dim=1)
    return ((radius - distance) / PIXEL + 0.5).clamp(0, 1).reshape(BOX, BOX, BOX).numpy()


@pytest.fixture(scope="module")
def two_motions(tmp_path_factory) -> tuple[Path, np.ndarray, dict[str, Path]]:
    """Particles with two blobs that move independently, their coordinates, and a mask around either."""
    folder = tmp_path_factory.mktemp("two")
    made = simulate(COUNT, noise=0.5, seed=7)
    other = np.random.default_rng(8).uniform(0, 1, COUNT)
    added = torch.stack([blob(other_centre(t), 8.0).reshape(-1) for t in other.tolist()])
    images = made.images
    images.coefficients.add_(
        splat_project(added, grid_points(BOX, PIXEL), images.rotations, None, BOX, PIXEL) * images.ctf
    )
    masks = {"first": sphere(moving_centre(0.5), 42.0), "second": sphere(other_centre(0.5), 42.0)}
    for name, mask in masks.items():
        write_mrc_volume(folder / f"{name}.mrc", mask, PIXEL)
    paths = {name: folder / f"{name}.mrc" for name in masks}
    return write_particles(made, folder), np.stack([made.t, other], axis=1), paths


def spread(states: np.ndarray) -> np.ndarray:
    return states.std(axis=0)


def r2(latents: np.ndarray, coordinates: np.ndarray) -> list[float]:
    return [latent_scores(latents, column).knn_r2 for column in coordinates.T]


def test_latents_know_the_motion_in_focus_alone(two_motions, tmp_path):
    particles, coordinates, masks = two_motions
    focus = masks["second"]
    train(ParticleInput(particles), tmp_path / "run", overrides=SHORT | {"focus": str(focus)})
    run = open_run(tmp_path / "run")
    found = r2(run.latents, coordinates)
    assert found[1] > 0.6
    assert found[0] < 0.15
    # What moves elsewhere was taken off before images were called outliers.
    away = np.abs(coordinates[:, 0] - coordinates[:, 0].mean())
    assert abs(np.corrcoef(run.outlier_score, away)[0, 1]) < 0.27
    inside = read_mrc_volume(focus)[0]
    states = run.volumes(run.latents[:20])
    still = inside == 0
    assert spread(states)[still].max() < RIPPLE * spread(states)[inside > 0.9].max()
    assert spread(states)[inside > 0.9].max() > 0.03 * states.max()
    # The still density holds what was not looked at.
    assert states[0][still].max() > 0.3 * states.max()
    basis = load_tensors(RunPaths(run.path).checkpoint("subspace"))[0]["basis"].numpy()
    assert np.abs(basis[:, still]).max() < 1e-6 * np.abs(basis).max()
    # Whoever reads the images as the network saw them does not see what moves elsewhere.
    with images_of_run(run) as (plain, *_), images_of_run(run, focused=True) as (focused, *_):
        taken = plain.take(torch.arange(50)).coefficients - focused.take(torch.arange(50)).coefficients
    assert taken.abs().square().mean() > 1e-3 * plain.take(torch.arange(50)).coefficients.abs().square().mean()


def test_what_is_ignored_is_not_looked_at_but_stays(two_motions, tmp_path):
    particles, coordinates, masks = two_motions
    arguments = ["--ignore", str(masks["second"]), "--out", str(tmp_path / "run"), "--recipe", str(recipe(tmp_path))]
    assert main(["train", str(particles), *arguments]) == 0
    run = open_run(tmp_path / "run")
    found = r2(run.latents, coordinates)
    assert found[0] > 0.6
    assert found[1] < 0.15
    ignored = read_mrc_volume(masks["second"])[0] == 1
    states = run.volumes(run.latents[:20])
    assert spread(states)[ignored].max() < RIPPLE * spread(states).max()
    assert states[0][ignored].max() > 0.2 * states.max()
    # Its null tests do not look there either.
    with opened(run.path, ParticleInput(run.path), {}) as subject:
        assert subject.moving is not None
        shrunk = torch.from_numpy(sphere(other_centre(0.5), 30.0)).bool()
        assert float(resample_volume(subject.moving, BOX)[shrunk].max()) < 0.05
        assert float(subject.moving.max()) == 1.0


def recipe(folder: Path) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(SHORT))
    return path


def test_density_is_where_the_solvent_mask_says(two_motions, tmp_path):
    particles, _, _ = two_motions
    mask = sphere((0.0, 0.0, 0.0), 48.0)
    write_mrc_volume(tmp_path / "mask.mrc", mask, PIXEL)
    short = SHORT | {"mask": str(tmp_path / "mask.mrc"), "stages": [{"box": 24, "epochs": 1}]}
    train(ParticleInput(particles), tmp_path / "run", overrides=short)
    occupancy = read_mrc_volume(RunPaths(tmp_path / "run").volumes / "occupancy.mrc")[0]
    np.testing.assert_allclose(occupancy, mask, atol=1e-6)
    run = open_run(tmp_path / "run")
    states = np.abs(run.volumes(run.latents[:3]))
    assert states[:, mask == 0].max() < RIPPLE * states.max()
    # Kept, so that the run goes on whatever becomes of the file.
    np.testing.assert_allclose(regions_of_run(RunPaths(run.path).volumes).solvent.numpy(), mask, atol=1e-6)


def test_masks_that_do_not_fit_leave_nothing_behind(two_motions, tmp_path, capsys):
    particles, _, _ = two_motions
    write_mrc_volume(tmp_path / "small.mrc", np.eye(16, dtype=np.float32)[None].repeat(16, 0), PIXEL)
    run = tmp_path / "run"
    assert main(["train", str(particles), "--out", str(run), "--focus", str(tmp_path / "small.mrc")]) == 2
    assert "16 voxels of 5 A" in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize("settings", [{"base": False}, {"model.domain": "fourier"}])
def test_methods_that_know_no_places(settings):
    with pytest.raises(InputError, match="setting focus"):
        load_config(overrides={"focus": "a.mrc", **settings})
