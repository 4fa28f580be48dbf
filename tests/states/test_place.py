"""Where a state is: coordinates, clusters and peaks, and what a place says of particles."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import ToyRun
from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError
from cryoformer.states.place import at_cluster, at_coordinates, at_latent, at_peak, read_place


def test_coordinates_are_those_of_the_report(tmp_path: Path) -> None:
    run = ToyRun(tmp_path)
    coordinates = principal_coordinates(run.latents).coordinates
    place = at_coordinates(run, coordinates[7, :1])
    away, covariance = place.along(run.latents, run.latents_covariance)
    assert away.shape == (len(coordinates), 1)
    assert np.allclose(away[:, 0], coordinates[:, 0] - coordinates[7, 0])
    assert np.allclose(covariance, 0.01)
    assert np.allclose(at_coordinates(run, coordinates[7]).latent, run.latents[7])
    with pytest.raises(InputError, match="3 coordinates were given; the run has 2"):
        at_coordinates(run, np.zeros(3))


def test_a_latent_is_taken_as_it_is(tmp_path: Path) -> None:
    run = ToyRun(tmp_path)
    away, covariance = at_latent(run, run.latents[3]).along(run.latents, run.latents_covariance)
    assert np.allclose(away[3], 0, atol=1e-6)
    assert np.allclose(covariance, run.latents_covariance)


def test_clusters_are_those_of_the_analysis(tmp_path: Path) -> None:
    run = ToyRun(tmp_path)
    with pytest.raises(InputError, match="run: cryoformer analyze"):
        at_cluster(run, 1)
    labels = np.arange(len(run.latents)) % 2
    (tmp_path / "analysis").mkdir()
    np.savez(tmp_path / "analysis" / "latent_space.npz", labels=labels, centres=np.array([10, 25]))
    assert np.allclose(at_cluster(run, 2).point, run.latents[25])
    with pytest.raises(InputError, match="are 1 to 2"):
        at_cluster(run, 3)


def test_peaks_are_where_particles_crowd_the_largest_first(tmp_path: Path) -> None:
    run, rng = ToyRun(tmp_path), np.random.default_rng(0)
    run.latents = np.concatenate([rng.normal((3, 0), 0.3, (300, 2)), rng.normal((-3, 1), 0.3, (900, 2))])
    run.latents_covariance = np.tile(0.01 * np.eye(2), (1200, 1, 1))
    for number, centre in ((1, (-3, 1)), (2, (3, 0))):
        place = at_peak(run, number)
        assert np.allclose(place.axes.T @ place.point, centre, atol=0.3)
    with pytest.raises(InputError, match="has peaks 1 to 2"):
        at_peak(run, 3)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "nan"])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InputError, match="--at"):
        read_place(text)


def test_numbers_with_commas() -> None:
    assert read_place("-1.5,2").tolist() == [-1.5, 2.0]
