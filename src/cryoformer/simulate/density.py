r"""Atoms as density: electron scattering factors, and volumes on the pixel grid of the images.

An atom of element e scatters with the factor (International Tables C, table 4.3.2.2; values from gemmi)

    f_e(k) = sum_i a_i exp(-b_i k^2 / 4) * exp(-B k^2 / 4)

k in 1/Angstrom, f in Angstrom. B is the same for all atoms and sets the resolution; the B-factors and occupancies of
the files are not used, because the two ends of a motion were often refined very differently. Densities are in
volts: f summed over atoms per cubic Angstrom, times 47.878 (h^2 / 2 pi m e).
"""

from collections.abc import Sequence

import numpy as np
import scipy.fft
from jaxtyping import Float, Float32

from cryoformer.simulate.structures import require_gemmi

VOLT_ANGSTROM2 = 47.878
"""h^2 / (2 pi m e): volts of a density of scattering factors (Angstrom) per cubic Angstrom."""
DENSITY_CUTOFF = 1e-7
"""Where gemmi cuts an atom off, as a fraction of its peak; at 1e-5 a tenth of a percent of the mass is lost."""


def scattering_factors(
    elements: Sequence[str], frequency: Float[np.ndarray, "*k"], b_factor_angstrom2: float
) -> Float[np.ndarray, "e *k"]:
    """f of every element at these |k| (1/Angstrom), in Angstrom."""
    gemmi = require_gemmi()
    quarter = np.asarray(frequency, dtype=np.float64) ** 2 / 4
    rows = []
    for element in elements:
        coefficients = gemmi.Element(element).c4322
        terms = zip(coefficients.a, coefficients.b, strict=True)
        rows.append(sum(a * np.exp(-(b + b_factor_angstrom2) * quarter) for a, b in terms))
    return np.stack(rows)


def state_volume(
    elements: Sequence[str],
    positions_angstrom: Float[np.ndarray, "p 3"],
    box: int,
    pixel_size_angstrom: float,
    b_factor_angstrom2: float,
) -> Float32[np.ndarray, "d d d"]:
    """Density [z, y, x] in volts of atoms at (x, y, z) relative to the centre, index ``box // 2``.

    gemmi sums the atoms on a grid twice as fine, which is then Fourier-cropped to the box, so that nothing beyond its
    Nyquist frequency is folded back in; the Nyquist planes themselves are zero, as in the images.
    """
    gemmi = require_gemmi()
    fine = 2 * box
    calculator = gemmi.DensityCalculatorE()
    calculator.cutoff = DENSITY_CUTOFF
    calculator.grid.unit_cell = gemmi.UnitCell(*[box * pixel_size_angstrom] * 3, 90, 90, 90)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P 1")
    calculator.grid.set_size(fine, fine, fine)
    kinds = {element: gemmi.Element(element) for element in set(elements)}
    centre = box // 2 * pixel_size_angstrom
    for element, position in zip(elements, positions_angstrom + centre, strict=True):
        atom = gemmi.Atom()
        atom.element, atom.pos, atom.occ = kinds[element], gemmi.Position(*position), 1.0
        atom.b_iso = b_factor_angstrom2
        calculator.add_atom_density_to_grid(atom)
    # gemmi's grid is [x, y, z].
    density = np.array(calculator.grid, copy=False, dtype=np.float32).transpose(2, 1, 0)
    return _crop(density, box) * np.float32(VOLT_ANGSTROM2)


def _crop(volume: Float32[np.ndarray, "f f f"], box: int) -> Float32[np.ndarray, "d d d"]:
    """The same density on a coarser grid that shares index 0, without what the coarser grid cannot hold."""
    fine, half = volume.shape[0], box // 2
    coefficients = scipy.fft.rfftn(volume)
    rows = np.r_[:half, fine - half : fine]
    cropped = coefficients[np.ix_(rows, rows, np.arange(half + 1))]
    cropped[half], cropped[:, half], cropped[:, :, half] = 0, 0, 0
    return scipy.fft.irfftn(cropped, s=(box,) * 3).astype(np.float32) * np.float32((box / fine) ** 3)
