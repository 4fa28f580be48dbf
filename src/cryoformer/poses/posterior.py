r"""How far the poses of images are off: Gaussian posteriors about given poses, by Gauss-Newton on the likelihood.

An image is Y = exp(-2 pi i k.d / L) C P(exp([w]x) R) V + noise, with a small turn w (radians, image coordinates) and a
small shift d (Angstrom) of its own; L is the side of the box. A projection is the slice of V's transform at q = R^T k,
so its derivatives need no finite differences: those of the transform are slices of the transforms of xV, yV and zV,

    dP/dw = g x k,   g = R (grad V^)(R^T k),   grad V^ = F[-2 pi i x V] / D,      dP/dd = -2 pi i k P / L.

The density may vary, V = mu + z U with latents z of prior N(0, 1) (the linear subspace). Images are linear in z, so z
is found together with the pose, and then integrated out: a pose is not turned to explain what is a motion.

With the prior N(0, diag(a^2, a^2, a^2, s^2, s^2)) = N(0, 1/Q) the posterior is N(m, S), S = (H + Q)^-1, m = S b, where
the data give H = J^H J and b = J^H r + H (w, d). How wide the prior is, the images say together (EM): where given
poses are right, a and s become small and the poses stay.
"""

from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.fourier import shift_phases
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices

POSE = 5
"""Coordinates of a pose, (w, d); latents follow them where a density varies."""


@dataclass(frozen=True)
class PosePrior:
    """Standard deviations of the errors of poses: a turn about each axis in radians, a shift along each in Angstrom."""

    turn: float
    shift: float

    def precision(self, device: torch.device) -> Float[Tensor, " 5"]:
        """Q: one over the variances of (w, d)."""
        return torch.tensor([self.turn**-2] * 3 + [self.shift**-2] * 2, dtype=torch.float32, device=device)


@dataclass(frozen=True)
class PoseEvidence:
    """What n images say of (w, d), how far the poses that they were given are off: exp(b.x - x.H x / 2)."""

    information: Float[Tensor, "n 5 5"]  # H
    vector: Float[Tensor, "n 5"]  # b

    def posterior(self, prior: PosePrior) -> tuple[Float[Tensor, "n 5"], Float[Tensor, "n 5 5"]]:
        """Mean and covariance of (w, d)."""
        covariance = torch.linalg.inv(self.information + torch.diag(prior.precision(self.vector.device)))
        return torch.einsum("njk,nk->nj", covariance, self.vector), covariance

    def fitted_prior(self, prior: PosePrior, steps: int = 30) -> PosePrior:
        """The prior under which these images are likeliest, by EM from this one on."""
        for _ in range(steps):
            mean, covariance = self.posterior(prior)
            second = (mean.square() + covariance.diagonal(dim1=1, dim2=2)).mean(dim=0)
            prior = PosePrior(float(second[:3].mean().sqrt()), float(second[3:].mean().sqrt()))
        return prior


class SlopedDensity:
    """Slices of the density mu + z U, and how they change as the particle turns and shifts and z changes.

    ``volumes`` are mu and U_1 .. U_k, [z, y, x]; with mu alone the density is still.
    """

    def __init__(self, volumes: Float[Tensor, "q d d d"], pixel_size_angstrom: float) -> None:
        box = volumes.shape[-1]
        self.plane = SlicePlane.of_box(box, volumes.device)
        self.side_angstrom = box * pixel_size_angstrom
        self.components = len(volumes) - 1
        places = grid_points(box, 1.0).to(volumes.device).reshape(box, box, box, 3).movedim(-1, 0)
        # One volume at a time: a large box takes several times the memory of its transform.
        tables = [fourier_from_volume(torch.cat([each[None], places * each])).flatten(1).T for each in volumes]
        coefficients = torch.cat(tables, dim=1)
        self._table = torch.cat([coefficients.real, coefficients.imag], dim=1).contiguous()

    def phases(self, shifts: Float[Tensor, "b 2"], scale: Float[Tensor, " b"]) -> Complex[Tensor, "b m"]:
        """exp(-2 pi i k.d / L), k of the scale of each image."""
        k = torch.stack([self.plane.kx, self.plane.ky])
        angle = -2 * torch.pi / self.side_angstrom * scale[:, None] * (shifts @ k)
        return torch.polar(torch.ones_like(angle), angle)

    @torch.no_grad()
    def project(
        self, rotations: Float[Tensor, "b 3 3"], latents: Float[Tensor, "b k"], scale: Float[Tensor, " b"]
    ) -> tuple[Complex[Tensor, "b m"], Complex[Tensor, "b m c"]]:
        """Slices without CTF, and their derivatives by (w, d) where these are 0, and by z: c = 5 + k.

        ``scale``: of each image (:attr:`.Images.scale`).
        """
        plane, b, views = self.plane, len(rotations), scale[:, None, None] * rotations
        rows = extract_slices(self._table, interpolate_slices(plane, views), 4 * (1 + self.components))
        of_volume = rows.view(b, -1, 1 + self.components, 4)
        shares = torch.cat([latents.new_ones(b, 1), latents], dim=1)
        density = torch.einsum("bq,bmqc->bmc", shares.to(rows.dtype), of_volume)
        slope = torch.einsum("bij,bmj->bmi", views.to(rows.dtype), density[..., 1:])
        x, y, z = (slope * (-2j * torch.pi / plane.box)).unbind(-1)
        value, kx, ky = density[..., 0], plane.kx, plane.ky
        moved = value * (-2j * torch.pi / self.side_angstrom) * scale[:, None]
        of_pose = torch.stack([-z * ky, z * kx, x * ky - y * kx, moved * kx, moved * ky], dim=-1)
        return value, torch.cat([of_pose, of_volume[..., 1:, 0]], dim=-1)


@dataclass(frozen=True)
class PoseStep:
    """Deviations of n images from the poses they were given, and their latents; what the images say there of both.

    Attributes:
        mean: (w, d, z).
        information, vector: of (w, d, z), as in :class:`PoseEvidence`.
        log_posterior: how probable they are, up to a constant.
    """

    mean: Float[Tensor, "n c"]
    information: Float[Tensor, "n c c"]
    vector: Float[Tensor, "n c"]
    log_posterior: Float[Tensor, " n"]

    def better_of(self, other: "PoseStep") -> "PoseStep":
        """Image by image the more probable one."""
        better = other.log_posterior >= self.log_posterior
        return PoseStep(
            torch.where(better[:, None], other.mean, self.mean),
            torch.where(better[:, None, None], other.information, self.information),
            torch.where(better[:, None], other.vector, self.vector),
            torch.where(better, other.log_posterior, self.log_posterior),
        )

    def evidence(self) -> PoseEvidence:
        """What the images say of the pose, whatever the latents."""
        info, vector = self.information, self.vector
        of_latents = info[:, POSE:, POSE:] + torch.eye(info.shape[1] - POSE, device=info.device)
        # Schur's complement: how much of the pose's information latents could explain as well.
        shared = torch.linalg.solve(of_latents, torch.cat([info[:, POSE:, :POSE], vector[:, POSE:, None]], dim=2))
        across = info[:, :POSE, POSE:]
        return PoseEvidence(
            info[:, :POSE, :POSE] - across @ shared[:, :, :POSE],
            vector[:, :POSE] - (across @ shared[:, :, POSE:])[..., 0],
        )


def pose_steps(
    images: FourierImages, density: SlopedDensity, start: Float[Tensor, "n c"], prior: PosePrior, steps: int
) -> PoseStep:
    """Gauss-Newton steps from ``start`` towards the posterior mean; one that makes an image less probable is halved.

    Args:
        images: at the poses that ``start``, (w, d, z), is away from those given.
    """
    plane = density.plane
    precision = torch.cat([prior.precision(start.device), torch.ones(density.components, device=start.device)])
    deviation = images.slice_deviation(plane)
    data, ctf = plane.take(images.coefficients) / deviation, plane.take(images.ctf) / deviation
    given = turned(images.rotations, -start[:, :3])
    # As if the shift of the start had never been taken out of the images.
    data = data * density.phases(start[:, 3:POSE], images.scale)
    best = _linearised(data, ctf, density, given, images.scale, start, precision)
    trial = _target(best, precision)
    for _ in range(steps - 1):
        here = _linearised(data, ctf, density, given, images.scale, trial, precision)
        worse = here.log_posterior < best.log_posterior
        best = best.better_of(here)
        trial = torch.where(worse[:, None], 0.5 * (trial + best.mean), _target(best, precision))
    return best


def at_poses(images: FourierImages, mean: Float[Tensor, "n 5"]) -> FourierImages:
    """Images at poses that are ``mean`` away from those they have."""
    shifts = mean[:, 3:] * images.scale[:, None]
    back = shift_phases(-shifts, images.box, images.pixel_size_angstrom)
    return replace(images, rotations=turned(images.rotations, mean[:, :3]), coefficients=images.coefficients * back)


def turned(rotations: Float[Tensor, "n 3 3"], turns: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """exp([w]x) R."""
    return roma.rotvec_to_rotmat(turns) @ rotations


def _target(step: PoseStep, precision: Float[Tensor, " c"]) -> Float[Tensor, "n c"]:
    """Posterior mean by the expansion of a step."""
    return torch.linalg.solve(step.information + torch.diag(precision), step.vector)


def _linearised(
    data: Complex[Tensor, "n m"],
    ctf: Float[Tensor, "n m"],
    density: SlopedDensity,
    given: Float[Tensor, "n 3 3"],
    scale: Float[Tensor, " n"],
    mean: Float[Tensor, "n c"],
    precision: Float[Tensor, " c"],
) -> PoseStep:
    """Likelihood and its expansion where poses and latents deviate by ``mean``."""
    value, slopes = density.project(turned(given, mean[:, :3]), mean[:, POSE:], scale)
    transfer = ctf * density.phases(mean[:, 3:POSE], scale)
    residual = data - transfer * value
    slopes = slopes * transfer[..., None]
    # |r|^2 / s^2 is the whole exponent of a complex Gaussian, so twice the real part is the curvature.
    real = torch.cat([slopes.real, slopes.imag], dim=1)
    information = 2 * real.transpose(1, 2) @ real
    gradient = 2 * torch.einsum("nmj,nm->nj", real, torch.cat([residual.real, residual.imag], dim=1))
    vector = gradient + torch.einsum("njk,nk->nj", information, mean)
    log_posterior = -residual.abs().square().sum(dim=1) - 0.5 * (precision * mean.square()).sum(dim=1)
    return PoseStep(mean, information, vector, log_posterior)
