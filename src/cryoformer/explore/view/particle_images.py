r"""Particles and their average beside what the decoded density says they should look like.

Images are shown as the reconstruction sees them (:class:`.PreparedParticles`): normalised, protein white, centred.

A class average is taken over particles seen from about the same direction. Each image is multiplied by its CTF,
centred, turned in the plane to the reference's pose, and the sum divided by the sum of CTF^2 (a Wiener filter):

    A = sum_i T_i(C_i Y_i) / (sum_i C_i^2 + c)

with C_i^2 taken as its radial mean, since the turned CTF differs from it by the astigmatism alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float, Float32, Int
from scipy.ndimage import affine_transform
from torch import Tensor

from cryoformer.errors import InputError
from cryoformer.formats.particle_input import Reopened
from cryoformer.images.preparation import PreparedParticles
from cryoformer.images.settings import ImageSettings
from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier, radial_mean, shells
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.run.run_folder import Run, RunPaths

SHOWN = 12
AVERAGED = 400
WITHIN_DEGREES = 15.0
WIENER_FRACTION = 0.1
"""The constant c, as a fraction of the largest radial sum of CTF^2."""


@dataclass(frozen=True)
class Gallery:
    """Some particles: their images, and projections of a density at their poses without and with their CTF."""

    rows: Int[np.ndarray, " m"]
    raw: Float[np.ndarray, "m d d"]
    clean: Float[np.ndarray, "m d d"]
    with_ctf: Float[np.ndarray, "m d d"]


@dataclass(frozen=True)
class ClassAverage:
    """Average of the ``used`` particles seen within WITHIN_DEGREES of particle ``reference``, and the projection."""

    reference: int
    used: int
    average: Float[np.ndarray, "d d"]
    projection: Float[np.ndarray, "d d"]
    correlation: float


class ParticleImages:
    """The images of a run's particles, protein white."""

    def __init__(self, run: Run, source: Reopened) -> None:
        """Raises InputError where the particle file no longer has the run's particles."""
        self.particles = source.read(RunPaths(run.path).rows)
        if len(self.particles) != len(run.latents):
            raise InputError(
                f"{self.particles.source}: {len(self.particles)} particles, but the run was trained on "
                f"{len(run.latents)}; put the original file back"
            )
        self.prepared = PreparedParticles(self.particles, ImageSettings.from_facts(run.config["settings"]))

    def gallery(self, rows: Int[np.ndarray, " m"], density: Float[np.ndarray, "d d d"]) -> Gallery:
        """Up to SHOWN of these particles, evenly spread, beside projections of a density at their poses."""
        chosen = rows[np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).round().astype(int)]
        clean, box = self._project(density, chosen), self.prepared.box
        with_ctf = clean * self.prepared.transfer(torch.from_numpy(chosen), box)
        images = (self.prepared.read(torch.from_numpy(chosen)), clean, with_ctf)
        return Gallery(chosen, *(fourier_to_images(each, box).numpy() for each in images))

    def class_average(self, rows: Int[np.ndarray, " m"], density: Float[np.ndarray, "d d d"]) -> ClassAverage:
        """Average over the most frequent viewing direction of these particles, and the density seen from there."""
        reference, near = densest_direction(self.particles.rotations[rows, 2])
        used, box = rows[near][:AVERAGED], self.prepared.box
        ctf = self.prepared.transfer(torch.from_numpy(used), box)
        power = radial_mean(ctf.square().sum(dim=0), box)
        wiener = power + WIENER_FRACTION * power.max()
        total = images_to_fourier(torch.from_numpy(self._sum_in_frame(used, int(rows[reference]), ctf)))
        projected = self._project(density, rows[[reference]])[0]
        # The projection gets the same filter, or the two could not be compared.
        average, projection = (
            fourier_to_images(half_plane * _by_shell(factor, box), box).numpy()
            for half_plane, factor in ((total, 1.0 / wiener), (projected, power / wiener))
        )
        return ClassAverage(
            reference=int(rows[reference]),
            used=len(used),
            average=average,
            projection=projection,
            correlation=float(np.corrcoef(average.reshape(-1), projection.reshape(-1))[0, 1]),
        )

    def _sum_in_frame(
        self, rows: Int[np.ndarray, " m"], reference: int, ctf: Float[Tensor, "m d h"]
    ) -> Float32[np.ndarray, "d d"]:
        """Images times their CTF, turned in the plane to a reference's pose, and added up."""
        weighted = fourier_to_images(self.prepared.read(torch.from_numpy(rows)) * ctf, self.prepared.box).numpy()
        rotations = self.particles.rotations
        total = np.zeros(weighted.shape[1:])
        for image, own in zip(weighted, rotations[rows], strict=True):
            total += turn(image, in_plane_angle(own, rotations[reference]))
        return total.astype(np.float32)

    def _project(self, density: Float[np.ndarray, "d d d"], rows: Int[np.ndarray, " m"]) -> Complex[Tensor, "m d h"]:
        """Projections of a density at the poses of these particles, centred."""
        pixel_size = self.prepared.pixel_size_angstrom
        points = grid_points(len(density), pixel_size)
        values = torch.from_numpy(np.array(density, dtype=np.float32)).reshape(-1)
        # Voxels of solvent are many and all but empty.
        held = values.abs() > 1e-3 * values.abs().max()
        rotations = torch.from_numpy(self.particles.rotations[rows].astype(np.float32))
        rotations = rotations * self.prepared.scale[torch.from_numpy(rows), None, None]
        density_of_all = values[held].expand(len(rows), -1)
        return splat_project(density_of_all, points[held], rotations, None, len(density), pixel_size)


def _by_shell(factor: Float[Tensor, " s"], box: int) -> Float[Tensor, "d h"]:
    """A factor per shell on the half-plane; 0 in the corners beyond the last shell."""
    shell = shells(box)
    return factor[shell.clamp(max=box // 2)].masked_fill(shell > box // 2, 0.0)


def densest_direction(
    directions: Float[np.ndarray, "m 3"], within_degrees: float = WITHIN_DEGREES
) -> tuple[int, Int[np.ndarray, " u"]]:
    """The viewing direction with most others near it (of at most 500 tried), and the rows of those."""
    tried = np.linspace(0, len(directions) - 1, min(500, len(directions))).round().astype(int)
    near = directions[tried] @ directions.T >= np.cos(np.deg2rad(within_degrees)) - 1e-9
    best = int(near.sum(axis=1).argmax())
    return int(tried[best]), np.flatnonzero(near[best])


def in_plane_angle(rotation: Float[np.ndarray, "3 3"], reference: Float[np.ndarray, "3 3"]) -> float:
    """The angle a for which turning the reference's image by a, (x, y) -> Rz(a) (x, y), gives this one (radians)."""
    relative = rotation @ reference.T
    return float(np.arctan2(relative[1, 0] - relative[0, 1], relative[0, 0] + relative[1, 1]))


def turn(image: Float[np.ndarray, "d d"], angle: float) -> Float[np.ndarray, "d d"]:
    """The image in the reference's frame: its value at (x, y) is the image's at Rz(angle) (x, y)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    # In (row, column) = (y, x): y' = sine x + cosine y, x' = cosine x - sine y.
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    centre = np.full(2, len(image) // 2)
    return np.asarray(affine_transform(image, matrix, centre - matrix @ centre, order=1, mode="constant"))
