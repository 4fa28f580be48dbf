"""Volumes of atoms: mass, place and shape."""

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.simulate.density import VOLT_ANGSTROM2, scattering_factors, state_volume

ELEMENTS = ("C", "N", "O", "S", "C", "P")
BOX, PIXEL = 24, 2.0
B_FACTOR = 4 * 6.0**2  # 6 A


def atoms(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-12.0, 12.0, (len(ELEMENTS), 3))


def volume_of(positions: np.ndarray, elements: tuple[str, ...] = ELEMENTS) -> np.ndarray:
    return state_volume(elements, positions, BOX, PIXEL, B_FACTOR)


@given(st.integers(0, 10**6))
def test_mass_is_the_sum_of_the_forward_scattering(seed: int) -> None:
    expected = VOLT_ANGSTROM2 * sum(gemmi.Element(e).c4322.calculate_sf(0.0) for e in ELEMENTS) / PIXEL**3
    assert volume_of(atoms(seed)).sum() == pytest.approx(expected, rel=1e-4)


def test_an_atom_at_the_centre_peaks_at_half_the_box() -> None:
    volume = volume_of(np.zeros((1, 3)), ("C",))
    assert np.unravel_index(volume.argmax(), volume.shape) == (BOX // 2,) * 3


def test_axes_are_z_y_x() -> None:
    volume = volume_of(np.array([[2 * PIXEL, 4 * PIXEL, -3 * PIXEL]]), ("O",))
    assert np.unravel_index(volume.argmax(), volume.shape) == (BOX // 2 - 3, BOX // 2 + 4, BOX // 2 + 2)


@given(st.integers(0, 10**6))
def test_turning_the_atoms_turns_the_volume(seed: int) -> None:
    """By 90 degrees about z, where the grid maps onto itself: (x, y) -> (-y, x)."""
    positions = atoms(seed)
    turned = np.stack([-positions[:, 1], positions[:, 0], positions[:, 2]], axis=1)
    # Without index 0 the grid is symmetric about index D // 2.
    inner, inner_turned = volume_of(positions)[1:, 1:, 1:], volume_of(turned)[1:, 1:, 1:]
    expected = inner.transpose(0, 2, 1)[:, :, ::-1]
    np.testing.assert_allclose(inner_turned, expected, atol=1e-3 * inner.max())


def test_shells_of_the_transform_follow_the_scattering_factor() -> None:
    """A single atom, off the grid: |F(k)| = f(k), the same in all directions."""
    volume = volume_of(np.array([[0.7, -1.3, 0.4]]), ("S",)).astype(np.float64)
    measured = np.abs(np.fft.fftn(volume)) * PIXEL**3
    axes = np.meshgrid(*[np.fft.fftfreq(BOX, PIXEL)] * 3, indexing="ij")
    k = np.sqrt(sum(axis**2 for axis in axes))
    inside = np.all([np.abs(axis) < 0.5 / PIXEL - 1e-9 for axis in axes], axis=0)
    expected = VOLT_ANGSTROM2 * scattering_factors(["S"], k, B_FACTOR)[0]
    np.testing.assert_allclose(measured[inside], expected[inside], atol=2e-3 * expected.max())


def test_scattering_factors_are_gemmis_with_the_low_pass() -> None:
    k = np.array([0.0, 0.1, 0.25])
    (curve,) = scattering_factors(["N"], k, B_FACTOR)
    bare = np.array([gemmi.Element("N").c4322.calculate_sf(float(s) ** 2 / 4) for s in k])
    np.testing.assert_allclose(curve, bare * np.exp(-((6.0 * k) ** 2)), rtol=1e-5)
