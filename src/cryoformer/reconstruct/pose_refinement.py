"""Poses that are roughly known made better: back-projection and pose posteriors in turn, at growing resolution.

The two halves of the images stay apart: either is compared with its own half map, Wiener-filtered by the agreement of
the two and masked, so that half maps of the refined poses are as independent as those of the poses given.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryoformer.imaging.fourier import filter_shells
from cryoformer.particles import Particles
from cryoformer.reconstruct.checkpoint import load_tensors, save_tensors
from cryoformer.reconstruct.consensus import Consensus, reconstruct_consensus
from cryoformer.reconstruct.images import Images
from cryoformer.reconstruct.occupancy import occupancy_mask
from cryoformer.reconstruct.pose_posterior import PoseEvidence, PosePrior, SlopedDensity, pose_steps
from cryoformer.reconstruct.prepared_particles import CtfApplied
from cryoformer.reconstruct.progress import RunLog
from cryoformer.reconstruct.streaming import prepare_images

FIRST_BOX = 32
# Errors that are looked for first; the images then say how large they are.
FIRST_TURN_DEGREES = 5.0
FIRST_SHIFT_SHARE = 1 / 32  # of the box
STEPS = 3
# New poses are kept if half maps agree better under them: by so much, on average over shells.
LEAST_GAIN = 0.001
# Half maps that agree better than this at the edge of their box have more to say beyond it.
WORTH_MORE = 0.3


@dataclass(frozen=True)
class ImageSettings:
    """How images are read (see :func:`.prepare_images`), and where the work is done."""

    invert: str = "auto"
    normalise: bool = True
    ctf_applied: CtfApplied = "auto"
    memory_gib: float = 2.0
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Poses:
    """Posteriors of all poses, relative to those that particles came with.

    Attributes:
        mean: (w, d) of every particle: the turn in radians, image coordinates, and the shift in Angstrom.
        covariance: of (w, d).
        prior: how far the given poses are off, as the images say.
    """

    mean: Float[Tensor, "n 5"]
    covariance: Float[Tensor, "n 5 5"]
    prior: PosePrior

    @staticmethod
    def given(count: int, side_angstrom: float) -> "Poses":
        """Poses as they came, in boxes of this side."""
        prior = PosePrior(math.radians(FIRST_TURN_DEGREES), FIRST_SHIFT_SHARE * side_angstrom)
        covariance = torch.diag(1 / prior.precision(torch.device("cpu"))).repeat(count, 1, 1)
        return Poses(torch.zeros(count, 5), covariance, prior)

    def applied(self, particles: Particles) -> Particles:
        """The particles at these poses."""
        mean = self.mean.double().numpy()
        return replace(
            particles,
            rotations=Rotation.from_rotvec(mean[:, :3]).as_matrix() @ particles.rotations,
            shifts_angstrom=particles.shifts_angstrom + mean[:, 3:],
        )

    @property
    def unknown(self) -> tuple[float, float]:
        """What remains unknown, rms: of a turn about an axis in degrees, of a shift along an axis in Angstrom."""
        variance = self.covariance.diagonal(dim1=1, dim2=2).mean(dim=0)
        return math.degrees(float(variance[:3].mean().sqrt())), float(variance[3:].mean().sqrt())


@dataclass(frozen=True)
class Refinement:
    """How far a refinement has come.

    Attributes:
        kept: the poses under which half maps agree best so far.
        agreement: mean FSC of those half maps; none yet at this box where it is -1.
        trial: the poses that are tried next.
        box: side of the images that the next round looks at.
        rounds: what every round found, as plain values.
        settled: whether there is nothing more to try.
    """

    kept: Poses
    agreement: float
    trial: Poses
    box: int
    rounds: tuple[dict[str, Any], ...] = ()
    settled: bool = False

    def save(self, path: Path) -> None:
        """As a checkpoint."""
        facts: dict[str, Any] = {"agreement": self.agreement, "box": self.box, "settled": self.settled}
        tensors: dict[str, Tensor] = {}
        for name, poses in (("kept", self.kept), ("trial", self.trial)):
            # Both may be the same poses, which a file of tensors must not hold twice in one place.
            tensors |= {f"{name}.mean": poses.mean.clone(), f"{name}.covariance": poses.covariance.clone()}
            facts[name] = [poses.prior.turn, poses.prior.shift]
        save_tensors(path, tensors, facts | {"rounds": list(self.rounds)})

    @staticmethod
    def load(path: Path) -> "Refinement":
        """The inverse of :meth:`save`."""
        tensors, facts = load_tensors(path)
        kept, trial = (
            Poses(tensors[f"{name}.mean"], tensors[f"{name}.covariance"], PosePrior(*facts[name]))
            for name in ("kept", "trial")
        )
        return Refinement(kept, facts["agreement"], trial, facts["box"], tuple(facts["rounds"]), facts["settled"])


def refine_poses(
    particles: Particles, settings: ImageSettings, cache: Path, checkpoint: Path, log: RunLog
) -> Refinement:
    """Refine all poses, on from ``checkpoint`` where it exists.

    Args:
        cache: folder for images that do not fit the memory.
    """
    if checkpoint.exists():
        found = Refinement.load(checkpoint)
    else:
        side = float((particles.boxes * particles.pixel_sizes_angstrom).min())
        given = Poses.given(len(particles), side)
        found = Refinement(given, -1.0, given, min(FIRST_BOX, particles.box - particles.box % 2))
    while not found.settled:
        found = _Round(particles, found, settings, cache, log).run()
        found.save(checkpoint)
        log.say(found.rounds[-1]["said"])
    return found


class _Round:
    """One back-projection at the poses to try; if these are better than those kept, posteriors against it."""

    def __init__(
        self, particles: Particles, so_far: Refinement, settings: ImageSettings, cache: Path, log: RunLog
    ) -> None:
        self.so_far, self.log = so_far, log
        log.stage(f"round {len(so_far.rounds) + 1}: reading images")
        with log.quiet(bool(so_far.rounds)):
            images = prepare_images(
                so_far.trial.applied(particles),
                cache,
                settings.invert,
                settings.memory_gib,
                settings.device,
                settings.seed,
                normalise=settings.normalise,
                ctf_applied=settings.ctf_applied,
            )
        self.full_box = images.box
        self.images = images.crop(so_far.box)

    def run(self) -> Refinement:
        """Where the refinement stands after this round."""
        so_far, box = self.so_far, self.images.box
        self.log.stage(f"density at {box} pixels")
        consensus = reconstruct_consensus(self.images)
        agreement = float(consensus.half_map_fsc.mean())
        facts: dict[str, Any] = {"box": box, "mean_half_map_fsc": agreement}
        said = f"{box} pixels: half maps agree by {agreement:.4f}"
        if agreement < so_far.agreement + LEAST_GAIN:
            facts["said"] = f"{said}, no better than before: the poses before stay"
            after = self._beyond(consensus)
        else:
            self.log.stage(f"poses at {box} pixels")
            count = len(self.images)
            trial = pose_posteriors(
                self.images, consensus, so_far.trial, lambda done: self.log.advance(done / count, f"{done} of {count}")
            )
            (turn, shift), prior = trial.unknown, trial.prior
            facts |= {"given_turn_degrees": math.degrees(prior.turn), "given_shift_angstrom": prior.shift}
            facts["said"] = (
                f"{said}; given poses are off by {math.degrees(prior.turn):.2f} degrees and {prior.shift:.2f} A, of "
                f"which {turn:.2f} degrees and {shift:.2f} A remain unknown"
            )
            # What remains unknown of the poses kept, the images have said only now.
            kept = replace(so_far.trial, covariance=trial.covariance, prior=prior)
            after = replace(so_far, kept=kept, agreement=agreement, trial=trial)
        return replace(after, rounds=(*so_far.rounds, facts))

    def _beyond(self, consensus: Consensus) -> Refinement:
        """On to the next box, if the images have more to say there."""
        edge = consensus.half_map_fsc[-max(self.images.box // 16, 1) :]
        larger = min(2 * self.images.box, self.full_box)
        if larger == self.images.box or float(edge.mean()) < WORTH_MORE:
            return replace(self.so_far, settled=True)
        return replace(self.so_far, trial=self.so_far.kept, agreement=-1.0, box=larger)


def pose_posteriors(
    images: Images, consensus: Consensus, start: Poses, progress: Callable[[int], None] = lambda done: None
) -> Poses:
    """Posteriors of all poses against the half maps that ``images``, at the poses of ``start``, have given.

    Each half is compared with its own half map. ``progress`` is called with the number of images done.
    """
    images, device, done = images.with_noise(consensus.noise_power), images.device, 0
    mean = start.mean.to(device)
    information, vector = torch.zeros(len(images), 5, 5, device=device), torch.zeros(len(images), 5, device=device)
    for density, rows in _halves(images, consensus):
        for some, batch in images.batches(rows.split(images.batch)):
            found = pose_steps(batch, density, mean[some], start.prior, STEPS).evidence
            information[some], vector[some] = found.information, found.vector
            done += len(some)
            progress(done)
    evidence = PoseEvidence(information, vector)
    prior = evidence.fitted_prior(start.prior)
    mean, covariance = evidence.posterior(prior)
    return Poses(mean.cpu(), covariance.cpu(), prior)


def _halves(images: Images, consensus: Consensus) -> Iterator[tuple[SlopedDensity, Tensor]]:
    """Either half map as the images of its half are compared with it, and their rows."""
    box = images.box
    mask = occupancy_mask(consensus.volume, images.pixel_size_angstrom)
    # The share of signal in a half map is what two of them have in common.
    gain = torch.cat([consensus.half_map_fsc.clamp(0, 1), consensus.half_map_fsc.new_zeros(box)])
    for number, half_map in enumerate(consensus.halves):
        filtered = filter_shells(half_map, gain) * mask
        yield SlopedDensity(filtered, images.pixel_size_angstrom), images.half(number)
