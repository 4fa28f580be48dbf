"""Raw particles beside projections: poses, shifts, CTF and in-plane turns all have to be right to agree."""

from pathlib import Path

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.explore.view.particle_images import ParticleImages, densest_direction, in_plane_angle, turn
from cryoformer.explore.view.session import Session
from cryoformer.formats.particle_input import reopen
from cryoformer.imaging.rotations import matrix_from_euler
from cryoformer.run.run_folder import open_run


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1])


def test_the_density_projected_with_pose_shift_and_ctf_is_the_image(session: Session) -> None:
    gallery = session.particles.gallery(np.arange(5, 100), session.run.model.static.numpy())
    assert len(gallery.rows) == 12
    for raw, with_ctf, clean in zip(gallery.raw, gallery.with_ctf, gallery.clean, strict=True):
        assert correlation(raw, with_ctf) > 0.99
        assert correlation(raw, with_ctf) > correlation(raw, clean)


def test_the_class_average_is_the_density_seen_from_there(session: Session) -> None:
    average = session.particles.class_average(np.arange(100), session.run.model.static.numpy())
    assert average.used >= 2
    # Directions up to 15 degrees apart are averaged, and interpolated once.
    assert average.correlation > 0.95


def test_images_turned_by_their_in_plane_angle_agree() -> None:
    reference = matrix_from_euler(np.array([[20.0, 50.0, 10.0]]))[0]
    turned = matrix_from_euler(np.array([[20.0, 50.0, 47.0]]))[0]
    angle = in_plane_angle(turned, reference)
    place = np.array([3.0, 4.0, 0.0])
    seen, own = (reference @ place)[:2], (turned @ place)[:2]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(rotation @ seen, own, atol=1e-9)

    image = np.zeros((33, 33))
    x, y = rotation @ [6.0, 0.0] + 16
    rows, columns = np.mgrid[:33, :33]
    image += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 4)
    peak = np.unravel_index(turn(image, angle).argmax(), image.shape)
    assert peak == (16, 22)


def test_the_densest_direction_is_that_of_the_cluster() -> None:
    rng = np.random.default_rng(0)
    scattered = rng.standard_normal((40, 3))
    cluster = np.array([0.0, 0.0, 1.0]) + 0.03 * rng.standard_normal((15, 3))
    directions = np.concatenate([scattered, cluster])
    best, near = densest_direction(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    assert best >= 40
    assert set(range(40, 55)) <= set(near.tolist())


def test_a_particle_file_that_has_changed_is_noticed(own_run: Path) -> None:
    run = open_run(own_run)
    run.latents = run.latents[:50]
    with pytest.raises(InputError, match="100 particles"):
        ParticleImages(run, reopen(run.path, run.config))
