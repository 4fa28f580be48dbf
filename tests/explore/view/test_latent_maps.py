"""Places on the maps and the latents they stand for."""

from pathlib import Path

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.explore.view.latent_maps import LatentMaps, read_umap
from cryoformer.explore.view.trajectories import find_trajectories, latent_along

RNG = np.random.default_rng(0)
LATENTS = RNG.standard_normal((400, 3)) * [3.0, 1.0, 0.3]


def test_a_place_on_a_map_keeps_its_two_coordinates() -> None:
    landscape = LatentMaps(LATENTS)
    for name, flat in landscape.maps.items():
        place = flat.coordinates.mean(axis=0) + 0.3
        latent = landscape.latent_at(name, (float(place[0]), float(place[1])))
        np.testing.assert_allclose(landscape.place_of(name, latent[None])[0], place, atol=1e-5)


def test_coordinates_that_the_map_does_not_show_follow_the_particles() -> None:
    """On a bent landscape a flat cut would leave the data: the hidden coordinate is that of the neighbours."""
    x, y = RNG.uniform(-1, 1, (2, 4000))
    landscape = LatentMaps(np.stack([4 * x, 2 * y, x**2], axis=1))
    for place in (-0.8, 0.0, 0.8):
        start = landscape.principal.coordinates_of(np.array([[4 * place, 0.0, place**2]]))[0]
        latent = landscape.latent_at("pc12", (float(start[0]), float(start[1])))
        assert latent[2] == pytest.approx(place**2, abs=0.1)


def test_umap_gives_the_nearest_particle() -> None:
    umap = RNG.standard_normal((400, 2))
    landscape = LatentMaps(LATENTS, umap)
    np.testing.assert_allclose(landscape.latent_at("umap", (float(umap[7, 0]), float(umap[7, 1]))), LATENTS[7])
    np.testing.assert_allclose(landscape.place_of("umap", LATENTS[7:8])[0], umap[7], atol=1e-6)


def test_umap_of_other_particles_is_not_used(tmp_path: Path) -> None:
    np.savez(tmp_path / "latent_space.npz", umap=np.zeros((5, 2)))
    assert read_umap(tmp_path / "latent_space.npz", 5) is not None
    assert read_umap(tmp_path / "latent_space.npz", 6) is None
    assert read_umap(tmp_path / "nothing.npz", 5) is None


def test_a_latent_space_of_one_dimension_still_has_a_map() -> None:
    landscape = LatentMaps(RNG.standard_normal((50, 1)))
    assert landscape.latent_at("pc12", (0.5, 3.0)).shape == (1,)


def test_a_map_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="pc99"):
        LatentMaps(LATENTS).latent_at("pc99", (0.0, 0.0))


def test_trajectories_of_an_analysis_come_first_and_unfit_files_are_left_out(tmp_path: Path) -> None:
    principal = LatentMaps(LATENTS).principal
    assert list(find_trajectories(tmp_path, LATENTS, principal)) == ["component 1", "component 2", "component 3"]
    np.save(tmp_path / "swing.npy", LATENTS[:4])
    np.save(tmp_path / "other.npy", LATENTS[:4, :2])
    (tmp_path / "broken.npy").write_text("no numbers")
    found = find_trajectories(tmp_path, LATENTS, principal)
    assert list(found) == ["swing"]
    np.testing.assert_allclose(latent_along(found["swing"], 0.5), LATENTS[1:3].mean(axis=0))
    np.testing.assert_allclose(latent_along(found["swing"], 1.0), LATENTS[3])
