"""Principal coordinates: exact, ordered, and the same whatever the order of the particles."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.assess.latent_space import principal_coordinates


@given(n=st.integers(2, 40), k=st.integers(1, 6), seed=st.integers(0, 100))
def test_coordinates_lead_back_to_the_latents(n: int, k: int, seed: int) -> None:
    latents = np.random.default_rng(seed).standard_normal((n, k)) * 3.0 ** -np.arange(k)
    found = principal_coordinates(latents)
    np.testing.assert_allclose(found.latents_at(found.coordinates), latents, atol=1e-4)
    np.testing.assert_allclose(found.coordinates_of(latents), found.coordinates, atol=1e-9)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(len(found.components)), atol=1e-9)
    np.testing.assert_allclose(found.explained.sum(), 1.0)
    assert (np.diff(found.explained) <= 1e-12).all()


def test_signs_do_not_depend_on_the_order_of_the_particles() -> None:
    latents = np.random.default_rng(1).standard_normal((200, 4)) * [4.0, 3.0, 2.0, 1.0]
    there, back = principal_coordinates(latents), principal_coordinates(latents[::-1])
    np.testing.assert_allclose(there.components, back.components, atol=1e-9)


def test_dead_directions_are_dropped_and_left_out_coordinates_are_the_mean() -> None:
    rng = np.random.default_rng(2)
    latents = np.zeros((50, 5)) + 7.0
    latents[:, 1], latents[:, 3] = 2.0 * rng.standard_normal(50), rng.standard_normal(50)
    found = principal_coordinates(latents)
    assert found.coordinates.shape == (50, 2)
    np.testing.assert_allclose(found.latents_at(np.zeros((1, 1)))[0], latents.mean(axis=0))
    assert principal_coordinates(np.ones((4, 3))).coordinates.shape == (4, 1)
