"""Free energies of known laws from places that are known only roughly."""

import numpy as np
import pytest

from cryoformer.states.deconvolution import SMOOTHNESS, PlaceLikelihood, bending, choose_smoothness, fit_energy

PLACES = 32
ALONG = (np.arange(PLACES) + 0.5) / PLACES


def two_wells() -> np.ndarray:
    density = 0.7 * np.exp(-0.5 * ((ALONG - 0.25) / 0.08) ** 2) + 0.3 * np.exp(-0.5 * ((ALONG - 0.75) / 0.08) ** 2)
    return np.asarray(density / density.sum())


def observed(shares: np.ndarray, error: float, count: int, seed: int = 0) -> tuple[PlaceLikelihood, np.ndarray]:
    """Likelihoods of particles drawn from these shares, and the estimates that they come from."""
    rng = np.random.default_rng(seed)
    errors = error * np.exp(0.3 * rng.standard_normal(count))
    estimates = rng.choice(ALONG, count, p=shares) + errors * rng.standard_normal(count)
    logs = -0.5 * ((estimates[:, None] - ALONG) / errors[:, None]) ** 2
    return PlaceLikelihood.from_logarithms(logs, np.ones(PLACES)), estimates


def on_a_plane(shares: np.ndarray, count: int, side: int = 14, seed: int = 0) -> tuple[PlaceLikelihood, np.ndarray]:
    """Particles drawn into four wells with these shares, and how many are in each.

    Each is known with errors of 0.08 and 0.05 that may be correlated.
    """
    rng = np.random.default_rng(seed)
    well = rng.choice(4, count, p=shares)
    true = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])[well]
    true = (true + 0.07 * rng.standard_normal((count, 2))).clip(0, 1)
    correlation = rng.uniform(-0.6, 0.6, count)
    covariance = np.tile(np.diag([0.08**2, 0.05**2]), (count, 1, 1))
    covariance[:, 0, 1] = covariance[:, 1, 0] = 0.004 * correlation
    estimates = true + np.stack([rng.multivariate_normal((0, 0), each) for each in covariance])
    axis = np.linspace(0, 1, side)
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    away = estimates[:, None] - places
    logs = -0.5 * np.einsum("nmi,nij,nmj->nm", away, np.linalg.inv(covariance), away)
    return PlaceLikelihood.from_logarithms(logs, np.ones(side**2), (side, side)), np.bincount(well, minlength=4)


def test_bending_of_known_surfaces() -> None:
    """Of quadratic surfaces all second derivatives are known; planes do not bend."""
    axis = np.linspace(0, 1, 24)
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    matrix = bending((24, 24))
    assert (3 * x - y) @ matrix @ (3 * x - y) == pytest.approx(0, abs=1e-6)
    for surface, expected in ((x**2, 4), (y**2, 4), (x * y, 2)):
        assert surface @ matrix @ surface == pytest.approx(expected, rel=0.2)
    assert (axis**2) @ bending((24,)) @ axis**2 == pytest.approx(4, rel=0.2)


def test_wells_come_out_that_a_histogram_smears() -> None:
    images, estimates = observed(two_wells(), error=0.15, count=3000)
    found = images.populations(fit_energy(images, 1e-7))
    smeared = np.histogram(estimates, bins=PLACES, range=(0, 1))[0] / len(estimates)
    away, before = (0.5 * np.abs(shares - two_wells()).sum() for shares in (found, smeared))
    assert away < 0.12
    assert before > 0.25
    assert found[:16].sum() == pytest.approx(0.7, abs=0.04)


def test_smoothness_is_chosen_by_images_that_were_left_out() -> None:
    flat, wells = np.full(PLACES, 1 / PLACES), two_wells()
    smooth, scores = choose_smoothness(observed(flat, 0.1, 1500)[0])
    rough, _ = choose_smoothness(observed(wells, 0.1, 1500)[0])
    assert smooth == max(SMOOTHNESS)
    assert rough < 1e-5
    assert SMOOTHNESS[int(scores.sum(axis=0).argmax())] == smooth
    assert scores.shape == (1500, len(SMOOTHNESS))


def test_images_that_count_twice_are_two_images() -> None:
    images, _ = observed(two_wells(), 0.1, 400)
    counts = np.random.default_rng(1).integers(0, 3, 400).astype(np.float64)
    repeated = images.take(np.repeat(np.arange(400), counts.astype(int)))
    assert np.allclose(fit_energy(images, 1e-6, counts), fit_energy(repeated, 1e-6), atol=0.05)


def test_lengths_are_taken_off() -> None:
    """Twice as many particles on twice the length are at the same free energy."""
    lengths = np.where(ALONG < 0.5, 2.0, 1.0)
    logs = np.where(np.arange(PLACES) == np.repeat(np.arange(PLACES), 40 * lengths.astype(int))[:, None], 0.0, -50.0)
    images = PlaceLikelihood.from_logarithms(logs, lengths)
    assert np.ptp(fit_energy(images, 1e-8)) < 0.02
    assert np.ptp(fit_energy(PlaceLikelihood.from_logarithms(logs, np.ones(PLACES)), 1e-8)) > 0.6


def test_a_constant_per_image_says_nothing() -> None:
    logs = np.log(observed(two_wells(), 0.1, 300)[0].likelihood)
    shift = np.random.default_rng(2).uniform(-900, 900, (300, 1))
    same = [
        fit_energy(PlaceLikelihood.from_logarithms(values, np.ones(PLACES)), 1e-6) for values in (logs, logs + shift)
    ]
    assert np.allclose(*same, atol=1e-6)
