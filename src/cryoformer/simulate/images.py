r"""Clean images of a moving molecule, every one at its own moment of the motion.

Atoms are projected, not voxels: at time t the atoms are turned into place, then by R, and splatted where they land;
the Fourier transform of what falls on the image is multiplied by the scattering factor of the element. As

    F(k) = sum_e f_e(k) S_e(k),      S_e(k) = sum of exp(-2 pi i k (R x + shift)_xy) over the atoms of element e

would take one transform per element, and the curves f_e of the light elements are nearly alike, f is factorised
into a few basis curves by a singular value decomposition. Two reproduce protein to a thousandth.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from cryoformer.imaging.fourier import crop_fourier, radii
from cryoformer.imaging.projection import splat
from cryoformer.simulate.density import VOLT_ANGSTROM2, scattering_factors
from cryoformer.simulate.motion import MotionPath

FINER = 2
"""Atoms have detail at every scale, and bilinear splatting folds some of it back: about 5 percent of the amplitude at
the edge of the band on the grid of the images, 1 percent on one this many times finer, far less inside the band."""
BASIS_ACCURACY = 1e-3
"""Singular values below this fraction of the largest are left out of the scattering factors."""


class AtomProjector:
    """Projects the atoms of a molecule along its motion onto images of ``box`` pixels.

    The densities are those of :func:`cryoformer.simulate.density.state_volume`: an image is the sum of that volume's
    voxels along z.
    """

    def __init__(
        self,
        elements: Sequence[str],
        start_angstrom: Float[np.ndarray, "p 3"],
        centre_angstrom: Float[np.ndarray, " 3"],
        path: MotionPath,
        box: int,
        pixel_size_angstrom: float,
        b_factor_angstrom2: float,
        present: Bool[np.ndarray, "k p"] | None = None,
    ) -> None:
        """``present`` says which atoms each composition has; None: there is one, and it has all."""
        self.box, self.pixel_size_angstrom = box, pixel_size_angstrom
        self._path, self._centre = path, centre_angstrom
        order = np.argsort(path.atom_group, kind="stable")
        self._groups = [
            torch.from_numpy(start_angstrom[order][path.atom_group[order] == group]).float()
            for group in range(path.groups)
        ]
        kinds, kind = np.unique(np.array(elements)[order], return_inverse=True)
        frequency = radii(box).double().numpy() / (box * pixel_size_angstrom)
        curves = scattering_factors(kinds.tolist(), frequency, b_factor_angstrom2) * VOLT_ANGSTROM2
        left, sizes, right = np.linalg.svd(curves.reshape(len(kinds), -1), full_matrices=False)
        kept = sizes > BASIS_ACCURACY * sizes[0]
        self._present = None if present is None else torch.from_numpy(present[:, order].astype(np.float32))
        self._weights = torch.from_numpy((left * sizes)[kind][:, kept].T.copy()).float()
        self._basis = torch.from_numpy(right[kept].reshape(-1, *frequency.shape)).float()

    def project(
        self,
        t: Float[np.ndarray, " b"] | Float[np.ndarray, "b c"],
        rotations: Float[np.ndarray, "b 3 3"],
        shifts_angstrom: Float[np.ndarray, "b 2"],
        composition: Int[np.ndarray, " b"] | None = None,
    ) -> Complex[Tensor, "b d h"]:
        """Half-plane images before the CTF, in volts: molecule at t, turned by R, content moved by the shift (x, y).

        ``composition`` says which atoms there are (row of ``present``); not needed where all have all.
        """
        positions = self._positions(t, rotations, shifts_angstrom)
        values = self._weights[None].expand(len(t), -1, -1)
        if self._present is not None and composition is not None:
            values = values * self._present[torch.from_numpy(composition)][:, None]
        fine = splat(values, positions, FINER * self.box, self.pixel_size_angstrom / FINER)
        coefficients = crop_fourier(fine, FINER * self.box, self.box)
        return (coefficients * self._basis).sum(dim=1) / self.pixel_size_angstrom**3

    def _positions(
        self,
        t: Float[np.ndarray, " b"] | Float[np.ndarray, "b c"],
        rotations: Float[np.ndarray, "b 3 3"],
        shifts_angstrom: Float[np.ndarray, "b 2"],
    ) -> Float[Tensor, "b p 2"]:
        """(x, y) of every atom in every image; the atoms come in the order of their groups."""
        turns, moves = self._path.transforms(t)
        rows = rotations[:, None, :2]
        turned = torch.from_numpy(rows @ turns).float()
        moved = torch.from_numpy((rows @ (moves - self._centre)[..., None])[..., 0] + shifts_angstrom[:, None]).float()
        parts = [
            atoms @ turned[:, group].transpose(1, 2) + moved[:, group, None] for group, atoms in enumerate(self._groups)
        ]
        return torch.cat(parts, dim=1)
