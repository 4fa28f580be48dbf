r"""How far the poses of images are off: Gaussian posteriors about given poses, by Gauss-Newton on the likelihood.

An image is Y = exp(-2 pi i k.d / L) C P(exp([w]x) R) V + noise, with a small turn w (radians, image coordinates) and a
small shift d (Angstrom) of its own; L is the side of the box. A projection is the slice of V's transform at q = R^T k,
so its derivatives need no finite differences: those of the transform are slices of the transforms of xV, yV and zV,

    dP/dw = g x k,   g = R (grad V^)(R^T k),   grad V^ = F[-2 pi i x V] / D,      dP/dd = -2 pi i k P / L.

With the prior N(0, diag(a^2, a^2, a^2, s^2, s^2)) = N(0, 1/Q) the posterior is N(m, S), S = (H + Q)^-1, m = S b, where
the data give H = J^H J and b = J^H r + H (w, d). How wide the prior is, the images say together (EM): where given
poses are right, a and s become small and the poses stay.
"""

from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from cryoformer.imaging.fourier import shift_phases
from cryoformer.imaging.projection import grid_points
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices
from cryoformer.reconstruct.images import FourierImages


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
    """Slices of a density [z, y, x], and how they change as the particle turns and shifts."""

    def __init__(self, volume: Float[Tensor, "d d d"], pixel_size_angstrom: float) -> None:
        box = volume.shape[-1]
        self.plane = SlicePlane.of_box(box, volume.device)
        self.side_angstrom = box * pixel_size_angstrom
        places = grid_points(box, 1.0).to(volume.device).reshape(box, box, box, 3)
        coefficients = fourier_from_volume(torch.cat([volume[None], places.movedim(-1, 0) * volume])).flatten(1).T
        self._table = torch.cat([coefficients.real, coefficients.imag], dim=1).contiguous()

    def phases(self, rotations: Float[Tensor, "b 3 3"], shifts: Float[Tensor, "b 2"]) -> Complex[Tensor, "b m"]:
        """exp(-2 pi i k.d / L); an image that is sampled more coarsely has rotations and k of a smaller scale."""
        k = torch.stack([self.plane.kx, self.plane.ky])
        angle = -2 * torch.pi / self.side_angstrom * _scale(rotations) * (shifts @ k)
        return torch.polar(torch.ones_like(angle), angle)

    @torch.no_grad()
    def project(self, rotations: Float[Tensor, "b 3 3"]) -> tuple[Complex[Tensor, "b m"], Complex[Tensor, "b m 5"]]:
        """Slices without CTF, and their derivatives by (w, d) where these are 0."""
        plane = self.plane
        rows = extract_slices(self._table, interpolate_slices(plane, rotations), 4)
        slope = torch.einsum("bij,bmj->bmi", rotations.to(rows.dtype), rows[..., 1:])
        x, y, z = (slope * (-2j * torch.pi / plane.box)).unbind(-1)
        value, kx, ky = rows[..., 0], plane.kx, plane.ky
        moved = value * (-2j * torch.pi / self.side_angstrom) * _scale(rotations)
        return value, torch.stack([-z * ky, z * kx, x * ky - y * kx, moved * kx, moved * ky], dim=-1)


@dataclass(frozen=True)
class PoseStep:
    """Deviations of n images from the poses they were given, what the images say there, and how probable they are."""

    mean: Float[Tensor, "n 5"]
    evidence: PoseEvidence
    log_posterior: Float[Tensor, " n"]

    def better_of(self, other: "PoseStep") -> "PoseStep":
        """Image by image the more probable one."""
        better = other.log_posterior >= self.log_posterior
        mine, theirs = self.evidence, other.evidence
        return PoseStep(
            torch.where(better[:, None], other.mean, self.mean),
            PoseEvidence(
                torch.where(better[:, None, None], theirs.information, mine.information),
                torch.where(better[:, None], theirs.vector, mine.vector),
            ),
            torch.where(better, other.log_posterior, self.log_posterior),
        )


def pose_steps(
    images: FourierImages, density: SlopedDensity, start: Float[Tensor, "n 5"], prior: PosePrior, steps: int
) -> PoseStep:
    """Gauss-Newton steps from ``start`` towards the posterior mean; one that makes an image less probable is halved.

    Args:
        images: at the poses that are ``start`` away from those given.
    """
    plane, precision = density.plane, prior.precision(start.device)
    deviation = images.slice_deviation(plane)
    data, ctf = plane.take(images.coefficients) / deviation, plane.take(images.ctf) / deviation
    given = turned(images.rotations, -start[:, :3])
    # As if the shift of the start had never been taken out of the images.
    data = data * density.phases(given, start[:, 3:])
    best = _linearised(data, ctf, density, given, start, precision)
    trial, _ = best.evidence.posterior(prior)
    for _ in range(steps - 1):
        here = _linearised(data, ctf, density, given, trial, precision)
        worse = here.log_posterior < best.log_posterior
        best = best.better_of(here)
        target, _ = best.evidence.posterior(prior)
        trial = torch.where(worse[:, None], 0.5 * (trial + best.mean), target)
    return best


def at_poses(images: FourierImages, mean: Float[Tensor, "n 5"]) -> FourierImages:
    """Images at poses that are ``mean`` away from those they have."""
    shifts = mean[:, 3:] * _scale(images.rotations)
    back = shift_phases(-shifts, images.box, images.pixel_size_angstrom)
    return replace(images, rotations=turned(images.rotations, mean[:, :3]), coefficients=images.coefficients * back)


def turned(rotations: Float[Tensor, "n 3 3"], turns: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3 3"]:
    """exp([w]x) R."""
    return roma.rotvec_to_rotmat(turns) @ rotations


def _linearised(
    data: Complex[Tensor, "n m"],
    ctf: Float[Tensor, "n m"],
    density: SlopedDensity,
    given: Float[Tensor, "n 3 3"],
    mean: Float[Tensor, "n 5"],
    precision: Float[Tensor, " 5"],
) -> PoseStep:
    """Likelihood and its expansion where poses deviate by ``mean``."""
    value, slopes = density.project(turned(given, mean[:, :3]))
    transfer = ctf * density.phases(given, mean[:, 3:])
    residual = data - transfer * value
    slopes = slopes * transfer[..., None]
    # |r|^2 / s^2 is the whole exponent of a complex Gaussian, so twice the real part is the curvature.
    real = torch.cat([slopes.real, slopes.imag], dim=1)
    information = 2 * real.transpose(1, 2) @ real
    gradient = 2 * torch.einsum("nmj,nm->nj", real, torch.cat([residual.real, residual.imag], dim=1))
    vector = gradient + torch.einsum("njk,nk->nj", information, mean)
    log_posterior = -residual.abs().square().sum(dim=1) - 0.5 * (precision * mean.square()).sum(dim=1)
    return PoseStep(mean, PoseEvidence(information, vector), log_posterior)


def _scale(rotations: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 1"]:
    return rotations[:, :1].norm(dim=2)
