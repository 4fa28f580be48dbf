"""Paths through the latent space: where the particles are, at even steps of the density."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cryoformer.decode.volume_source import VolumeSource
from cryoformer.errors import InputError
from cryoformer.run.run_folder import Run
from cryoformer.states.path import PLACES, SIDE, along_component, even_path, path_line, plane

BOX = 8


class Changing(Run):
    """A run whose density changes with its first latent as ``change`` says."""

    def __init__(self, change: Callable[[float], float], dimensions: int) -> None:
        self.path = Path("run")
        direction = np.random.default_rng(0).standard_normal((BOX,) * 3).astype(np.float32)
        still = np.full((BOX,) * 3, 5.0, np.float32)
        VolumeSource.__init__(
            self,
            "changing",
            np.zeros((1, dimensions)),
            lambda latents: (still + np.float32(change(float(z[0]))) * direction for z in latents),
        )


def test_steps_of_the_density_are_even_however_latents_are_stretched() -> None:
    line = np.linspace([-1.0, 0.0], [1.0, 0.0], PLACES)
    path = even_path(Changing(lambda z: z**3, 2), line, "a path", BOX)
    volumes = path.base.flatten() + path.basis @ path.coefficients.flatten(1)
    steps = (volumes[1:] - volumes[:-1]).norm(dim=1)
    assert float(steps.max() / steps.min()) < 1.5  # 2,000 for even steps of the latent
    assert path.latents[0, 0] == pytest.approx(-1)
    assert path.latents[-1, 0] == pytest.approx(1)


def test_without_motion_there_is_no_path() -> None:
    with pytest.raises(InputError, match="does not change along a path"):
        even_path(Changing(lambda z: 1e-6 * z, 1), np.linspace([-1.0], [1.0], PLACES), "a path", BOX)


def test_a_path_bends_with_the_particles() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, 4000)
    latents = np.stack([x, 0.2 * x**2 + 0.05 * rng.standard_normal(4000)], axis=1)
    line = along_component(latents)
    assert np.abs(line[:, 1] - 0.2 * line[:, 0] ** 2).max() < 0.35
    assert np.all(np.diff(line[:, 0]) > 0)


def test_a_plane_has_the_density_of_its_places() -> None:
    run = Changing(lambda z: z, 2)
    run.latents = np.stack(np.meshgrid(np.linspace(-2, 2, 30), np.linspace(-1, 1, 20)), axis=-1).reshape(-1, 2)
    with pytest.raises(InputError, match="does not change along principal coordinate 2"):
        plane(run, (1, 2), BOX)
    with pytest.raises(InputError, match="give two coordinates that differ"):
        plane(run, (1, 1), BOX)
    with pytest.raises(InputError, match="has components 1 to 2"):
        plane(run, (1, 3), BOX)
    run = Changing(lambda z: z, 2)
    # Both principal coordinates turn the first latent.
    run.latents = np.random.default_rng(3).standard_normal((500, 2)) @ np.array([[2.0, 1.0], [0.5, -1.0]])
    places = plane(run, (2, 1), BOX)
    assert places.shape == (SIDE, SIDE)
    found = places.base.flatten() + places.basis @ places.coefficients.flatten(1)
    decoded = np.stack([volume.ravel() for volume in run.latent_volumes(places.latents)])
    assert np.abs(found.numpy() - decoded).max() < 1e-3


def test_what_a_line_can_be() -> None:
    latents = np.random.default_rng(2).standard_normal((200, 3))
    points = np.array([[0.0, 0, 0], [1, 1, 1]])
    assert np.array_equal(path_line(latents, points=points)[0], points)
    assert path_line(latents)[0].shape == (PLACES, 3)
    ends = path_line(latents, between=(3, 9))[0][[0, -1]]
    assert np.allclose(ends, latents[[3, 9]])
    with pytest.raises(InputError, match="one point is no path"):
        path_line(latents, points=points[:1])
