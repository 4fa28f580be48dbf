r"""Where every particle has its part: a pose of its own, about the one that its latent tells.

    T_mi = exp([w]x) R_m(z_i) x + c_m(z_i) + t,     (w, t) = J (z - z_i) + d,     d ~ N(0, diag(a^2, s^2))

z_i is the mean of the image's latent and J the path's derivative there: what the image leaves open of its latent moves
the part along its path, d takes it off. Of an image, the slopes of its part's slice give information H and gradient g
on (w, t), so that z and d have a Gaussian posterior together; how far parts are off their path, a and s, the images
say together (EM, as for poses in :mod:`cryoformer.poses.posterior`). Where parts keep to their path, a and s become
small, held-out images gain nothing, and parts stand where latents say.
"""

from dataclasses import dataclass

import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import Images
from cryoformer.parts.density import PartDensities
from cryoformer.parts.motion import PartMotions, moved
from cryoformer.parts.update import PartProjector

FIRST_TURN, FIRST_SHIFT = 0.1, 3.0  # radians, Angstrom
EM_STEPS = 60
STEPS = 3
SLOPE_STEP = 0.02  # of a standard deviation of the latents
POSE = 6

OwnPosterior = tuple[Float[Tensor, "m n 6"], Float[Tensor, "m n 6 6"]]


@dataclass(frozen=True)
class PartSpread:
    """How far a part is off its path: standard deviations about each axis, in radians and Angstrom."""

    turn: float
    shift: float

    def precision(self) -> Float[Tensor, "6"]:
        """One over the variances of (w, t)."""
        return torch.tensor([max(self.turn, 1e-4) ** -2] * 3 + [max(self.shift, 1e-3) ** -2] * 3)


@dataclass(frozen=True)
class OwnEvidence:
    """What n images say of the pose of one part, about where their latents put it.

    Attributes:
        information, vector: the likelihood is exp(vector.x - x.information.x / 2), x = (w, t).
        path: J, by latents in units of the population's standard deviations.
        before: the mean of the population's latents from that of the image, in the same units.
    """

    information: Float[Tensor, "n 6 6"]
    vector: Float[Tensor, "n 6"]
    path: Float[Tensor, "n 6 k"]
    before: Float[Tensor, "n k"]

    def take(self, rows: Int[Tensor, " r"]) -> "OwnEvidence":
        return OwnEvidence(self.information[rows], self.vector[rows], self.path[rows], self.before[rows])

    def _system(self, spread: PartSpread | None) -> tuple[Tensor, Tensor, Tensor]:
        """Precision and right-hand side of (z, d), or of z alone where parts keep to the path; log prior volume."""
        k, spans = self.path.shape[2], self.path
        prior = torch.ones(k)
        if spread is not None:
            spans = torch.cat([spans, torch.eye(POSE).expand(len(spans), -1, -1)], dim=2)
            prior = torch.cat([prior, spread.precision()])
        precision = spans.transpose(1, 2) @ self.information @ spans + torch.diag(prior)
        right = (self.vector[:, None] @ spans)[:, 0]
        right[:, :k] += self.before
        return precision.double(), right.double(), prior.log().sum()

    def log_evidence(self, spread: PartSpread | None) -> Float[Tensor, " n"]:
        """log p(image), up to what does not depend on the spread."""
        precision, right, log_prior = self._system(spread)
        solved = torch.linalg.solve(precision, right)
        return (0.5 * ((right * solved).sum(dim=1) - torch.logdet(precision) + log_prior)).float()

    def posterior(self, spread: PartSpread) -> tuple[Float[Tensor, "n 6"], Float[Tensor, "n 6 6"]]:
        """Mean and covariance of (w, t)."""
        precision, right, _ = self._system(spread)
        covariance = torch.linalg.inv(precision)
        spans = torch.cat([self.path, torch.eye(POSE).expand(len(self.path), -1, -1)], dim=2).double()
        mean = (spans @ (covariance @ right[..., None]))[..., 0]
        return mean.float(), (spans @ covariance @ spans.transpose(1, 2)).float()

    def fitted(self) -> PartSpread:
        """The spread under which these images are likeliest, by EM."""
        spread, k = PartSpread(FIRST_TURN, FIRST_SHIFT), self.path.shape[2]
        for _ in range(EM_STEPS):
            precision, right, _ = self._system(spread)
            covariance = torch.linalg.inv(precision)
            mean = (covariance @ right[..., None])[..., 0]
            second = (mean.square() + covariance.diagonal(dim1=1, dim2=2))[:, k:].mean(dim=0)
            spread = PartSpread(float(second[:3].mean().sqrt()), float(second[3:].mean().sqrt()))
        return spread


class OwnPoses:
    """Reads the parts' own poses from images without their still density."""

    def __init__(
        self, residuals: Images, densities: PartDensities, motions: PartMotions, latents: Float[Tensor, "n k"]
    ) -> None:
        self.residuals, self.densities = residuals, densities
        self.places = motions.at(latents)
        deviation = latents.std(dim=0).clamp_min(1e-6)
        self.before = ((latents.mean(dim=0) - latents) / deviation).cpu()
        self.path = path_slopes(motions, latents, deviation).cpu()

    def evidence(self, poses: Float[Tensor, "m n 6"] | None = None) -> tuple[list[OwnEvidence], Float[Tensor, " n"]]:
        """What every image says of its parts, expanded about these poses (None: the path); its likelihood there."""
        places = self.places if poses is None else moved(self.places, poses.to(self.residuals.device))
        projector = PartProjector(self.densities, places, sloped=True)
        deviation = self.residuals.slice_deviation(projector.plane)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for rows, batch in self.residuals.batches(self.residuals.every()):
            data, ctf = (projector.plane.take(value) / deviation for value in (batch.coefficients, batch.ctf))
            said = projector.evidence(projector.slices(batch, rows[:, None]), data, ctf)
            for values, value in zip(found, said, strict=True):
                values.append(value.cpu())
        matrix, vector = (torch.cat(values, dim=1) for values in found[:2])
        if poses is not None:
            vector = vector + (matrix @ poses[..., None])[..., 0]
        every = zip(matrix, vector, self.path, strict=True)
        return [OwnEvidence(*each, self.before) for each in every], torch.cat(found[2])

    def read(
        self, first: list[OwnEvidence], likelihood: Float[Tensor, " n"], spreads: list[PartSpread]
    ) -> tuple[OwnPosterior, list[PartSpread]]:
        """Posterior means and covariances by Gauss-Newton steps from the path, and the spreads as they are then.

        A step that an image dislikes is halved.

        Args:
            first, likelihood: the evidence about the path.
            spreads: of every part, to begin with; one of 0 stays 0.
        """
        kept, best, best_likelihood = first, torch.zeros(len(first), len(likelihood), POSE), likelihood
        trial = _posterior(kept, spreads)[0]
        for _ in range(STEPS):
            here, likelihood = self.evidence(trial)
            found, before = _fit(here, trial, spreads) + likelihood, _fit(kept, best, spreads) + best_likelihood
            better = found > before
            kept = [_where(better, one, other) for one, other in zip(here, kept, strict=True)]
            best = torch.where(better[None, :, None], trial, best)
            best_likelihood = torch.where(better, likelihood, best_likelihood)
            spreads = [each.fitted() if old.turn else old for each, old in zip(kept, spreads, strict=True)]
            trial = torch.where(better[None, :, None], _posterior(kept, spreads)[0], 0.5 * (trial + best))
        return (best, _posterior(kept, spreads)[1]), spreads


def _posterior(evidence: list[OwnEvidence], spreads: list[PartSpread]) -> OwnPosterior:
    found = [part.posterior(spread) for part, spread in zip(evidence, spreads, strict=True)]
    return torch.stack([mean for mean, _ in found]), torch.stack([covariance for _, covariance in found])


def _fit(evidence: list[OwnEvidence], poses: Float[Tensor, "m n 6"], spreads: list[PartSpread]) -> Float[Tensor, " n"]:
    """Log prior of the poses of all parts, whatever of them is along the paths."""
    total = torch.zeros(poses.shape[1])
    for part, own, spread in zip(evidence, poses, spreads, strict=True):
        path = part.path
        covariance = path @ path.transpose(1, 2) + torch.diag(1 / spread.precision())
        off = own - (path @ part.before[..., None])[..., 0]
        total -= 0.5 * (off * torch.linalg.solve(covariance, off)).sum(dim=1)
    return total


def _where(choice: Tensor, one: OwnEvidence, other: OwnEvidence) -> OwnEvidence:
    information = torch.where(choice[:, None, None], one.information, other.information)
    return OwnEvidence(information, torch.where(choice[:, None], one.vector, other.vector), one.path, one.before)


def path_slopes(
    motions: PartMotions, latents: Float[Tensor, "n k"], deviation: Float[Tensor, " k"]
) -> Float[Tensor, "m n 6 k"]:
    """J: how a part turns and shifts, in the molecule's frame, by a standard deviation of each latent."""
    here, slopes = motions.at(latents), []
    for axis, step in enumerate(SLOPE_STEP * deviation):
        there = latents.clone()
        there[:, axis] += step
        places = motions.at(there)
        turn = roma.rotmat_to_rotvec(places.rotations @ here.rotations.transpose(-1, -2))
        slopes.append(torch.cat([turn, places.centres - here.centres], dim=-1) / SLOPE_STEP)
    return torch.stack(slopes, dim=-1)
