"""Poses that are roughly known made better: back-projection and pose posteriors in turn, at growing resolution.

Against one still density first, until half maps agree no better; then against a linear subspace, so that a motion is
not mistaken for a turn of the whole particle. Particles of a point group stay with the still density: of all views that
are alike images are at one, so that each would see a quarter or less of a density that moves.

The two halves of the images stay apart: either is compared with its own half map, Wiener-filtered by the agreement of
the two and masked, so that half maps of the refined poses are as independent as those of the poses given.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.images.fourier_images import Images
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.linear.consensus import Consensus, reconstruct_consensus
from cryoformer.particles import Particles
from cryoformer.poses.posterior import POSE, PoseEvidence, PosePrior, pose_steps, turned
from cryoformer.poses.reference import PoseReference, kept_frame, moving_references, still_references
from cryoformer.progress import RunLog

FIRST_BOX = 32
# Errors that are looked for first; the images then say how large they are.
FIRST_TURN_DEGREES = 5.0
FIRST_SHIFT_SHARE = 1 / 32  # of the box
STEPS = 3
# New poses are kept if half maps agree better under them: by so much, on average over shells.
LEAST_GAIN = 0.001
# Where densities vary: rounds a box at most; changes of the errors' size that are worth another: a share of it, and the
# pixels by which the surface of a particle moves, at a radius of this share of the box.
MOVING_ROUNDS, CHANGE, VISIBLE, RADIUS = 5, 0.05, 0.03, 0.25
# Of errors of which more than this share remains unknown, the images know next to nothing.
MOST_UNKNOWN = 0.9
# Half maps that agree better than this at the edge of their box have more to say beyond it.
WORTH_MORE = 0.3
# Half maps that agree by so much less than those of the still density, while errors seem to grow: what the density
# does is no motion of the particles, whose poses it would spoil.
MOST_LOSS = 0.004
UNSEEN = -1.0


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

    @property
    def improves(self) -> bool:
        """Whether the images know more of the errors than that they are small."""
        turn, shift = self.unknown
        return turn < MOST_UNKNOWN * math.degrees(self.prior.turn) or shift < MOST_UNKNOWN * self.prior.shift


@dataclass(frozen=True)
class Refinement:
    """How far a refinement has come.

    Attributes:
        kept: the best poses so far.
        trial: the poses that the next round looks at.
        box: side of the images that it looks at.
        moving: whether densities vary, or every particle is compared with the same one.
        rigid: whether they may not vary.
        changes: of densities that may vary, whether the last round still changed what is known of the errors.
        agreement: mean FSC of the half maps of the poses kept at this box (not followed where densities vary).
        given_agreement: that of the poses given; both ``UNSEEN`` where not known.
        rounds: what every round found, as plain values.
        settled: whether there is nothing more to try.
        components: of densities that vary, at poses before, of either half.
    """

    kept: Poses
    trial: Poses
    box: int
    moving: bool = False
    rigid: bool = False
    changes: bool = True
    agreement: float = UNSEEN
    given_agreement: float = UNSEEN
    settled: bool = False
    rounds: tuple[dict[str, Any], ...] = ()
    components: dict[int, Float[Tensor, "k d d d"]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """As a checkpoint."""
        facts = {name: value for name, value in vars(self).items() if name not in ("kept", "trial", "components")}
        tensors = {f"components.{number}": basis for number, basis in self.components.items()}
        for name, poses in (("kept", self.kept), ("trial", self.trial)):
            # Both may be the same poses, which a file of tensors must not hold twice in one place.
            tensors |= {f"{name}.mean": poses.mean.clone(), f"{name}.covariance": poses.covariance.clone()}
            facts[name] = [poses.prior.turn, poses.prior.shift]
        save_tensors(path, tensors, facts)

    @staticmethod
    def load(path: Path) -> "Refinement":
        """The inverse of :meth:`save`."""
        tensors, facts = load_tensors(path)
        for name in ("kept", "trial"):
            facts[name] = Poses(tensors[f"{name}.mean"], tensors[f"{name}.covariance"], PosePrior(*facts[name]))
        components = {number: tensors[name] for number in (0, 1) if (name := f"components.{number}") in tensors}
        return Refinement(**facts | {"rounds": tuple(facts["rounds"]), "components": components})


def refine_poses(
    particles: Particles,
    settings: ImageSettings,
    cache: Path,
    checkpoint: Path,
    log: RunLog,
    group: Float[Tensor, "g 3 3"] | None = None,
    over: Callable[[], bool] = lambda: False,
    *,
    independent: bool = True,
) -> Refinement:
    """Refine all poses, on from ``checkpoint`` where it exists.

    Args:
        cache: folder for images that do not fit the memory.
        group: rotations that lay the particles on themselves (None: none but identity).
        over: whether the time is over; asked before every round.
        independent: whether half maps at the poses given are independent. They are not, and say nothing of these poses,
            if the two halves were compared with one map.
    """
    if checkpoint.exists():
        found = Refinement.load(checkpoint)
    else:
        side = float((particles.boxes * particles.pixel_sizes_angstrom).min())
        given = Poses.given(len(particles), side)
        rigid = group is not None and len(group) > 1
        found = Refinement(given, given, min(FIRST_BOX, particles.box - particles.box % 2), rigid=rigid)
    while not found.settled and not over():
        found = _Round(particles, found, settings, cache, log, group, independent).run()
        found.save(checkpoint)
        log.say(found.rounds[-1]["said"])
    return found


class _Round:
    """One back-projection at the poses to look at, and either a verdict on them or posteriors of all poses."""

    def __init__(
        self,
        particles: Particles,
        so_far: Refinement,
        settings: ImageSettings,
        cache: Path,
        log: RunLog,
        group: Float[Tensor, "g 3 3"] | None,
        independent: bool,
    ) -> None:
        self.so_far, self.log, self.group = so_far, log, group
        self.independent = independent or bool(so_far.rounds)
        log.stage(f"round {len(so_far.rounds) + 1}: reading images")
        with log.quiet(bool(so_far.rounds)):
            images = prepare_images(so_far.trial.applied(particles), cache, settings)
        self.full_box, self.seed = images.box, settings.seed
        self.images = images.crop(so_far.box)

    def run(self) -> Refinement:
        """Where the refinement stands after this round."""
        box, before = self.images.box, self.so_far
        self.log.stage(f"density at {box} pixels")
        consensus = reconstruct_consensus(self.images, self.group)
        agreement = float(consensus.half_map_fsc.mean())
        seen = agreement if self.independent else UNSEEN
        if not before.rounds:
            self.so_far = replace(before, given_agreement=seen)
        after, said = (self._moving if before.moving else self._still)(consensus, seen)
        prior = after.trial.prior
        facts = {
            "box": box,
            "moving": before.moving,
            "mean_half_map_fsc": agreement,
            "given_turn_degrees": math.degrees(prior.turn),
            "given_shift_angstrom": prior.shift,
            "said": f"{box} pixels{', moving' if before.moving else ''}: half maps agree by {agreement:.4f}; {said}",
        }
        return replace(after, rounds=(*before.rounds, facts))

    def _still(self, consensus: Consensus, agreement: float) -> tuple[Refinement, str]:
        """Poses against one density for all particles, as long as half maps agree better and better."""
        so_far = self.so_far
        if so_far.agreement > UNSEEN and agreement < so_far.agreement + LEAST_GAIN:
            so_far, said = replace(so_far, trial=so_far.kept), "no better than before: the poses before stay"
            if not so_far.rigid:
                return replace(so_far, moving=True), said
            after, next_said = self._larger(so_far, consensus)
            return after, f"{said}; {next_said}"
        trial = self._posteriors(consensus, still_references)
        # What remains unknown of the poses kept, the images have said only now.
        kept = replace(so_far.trial, covariance=trial.covariance, prior=trial.prior)
        return replace(so_far, kept=kept, agreement=agreement, trial=trial), _errors_said(trial)

    def _moving(self, consensus: Consensus, agreement: float) -> tuple[Refinement, str]:
        """Poses against densities that vary, as long as what is known of their errors changes.

        The agreement of half maps is no guide from round to round: it is best in the frame of the best rigid fit.
        """
        so_far, box = self.so_far, self.images.box
        if box <= FIRST_BOX and agreement < so_far.agreement - MOST_LOSS and self._errors_grow():
            still = replace(so_far, trial=so_far.kept, moving=False, rigid=True)
            after, said = self._larger(still, consensus)
            return after, f"worse than with a density that is still, whose poses stay; {said}"
        if so_far.changes:
            known = dict(so_far.components)
            references = partial(moving_references, first_box=FIRST_BOX, seed=self.seed, known=known)
            trial = self._posteriors(consensus, references)
            done = sum(fact["moving"] and fact["box"] == box for fact in so_far.rounds) + 1
            changes = done < MOVING_ROUNDS and trial.improves and self._differ(trial.prior, so_far.trial.prior)
            return replace(so_far, trial=trial, changes=changes, components=known), _errors_said(trial)
        trial = so_far.trial
        if box <= FIRST_BOX and (not trial.improves or agreement < so_far.given_agreement + LEAST_GAIN):
            kept = replace(trial, mean=torch.zeros_like(trial.mean))
            return replace(so_far, kept=kept, settled=True), "no better than those given, which stay"
        return self._larger(replace(so_far, kept=trial, changes=True), consensus)

    def _larger(self, so_far: Refinement, consensus: Consensus) -> tuple[Refinement, str]:
        """On to twice the box, if the half maps have something to say at the edge of theirs."""
        box = self.images.box
        edge = consensus.half_map_fsc[-max(box // 16, 1) :]
        larger = min(2 * box, self.full_box)
        if larger == box or float(edge.mean()) < WORTH_MORE:
            return replace(so_far, settled=True), "the poses have settled"
        return replace(so_far, box=larger, agreement=UNSEEN), f"settled; on to {larger} pixels"

    def _errors_grow(self) -> bool:
        """Whether the last two rounds, the last with a density that moves, found larger errors one after the other."""
        before, last = ([fact["given_turn_degrees"], fact["given_shift_angstrom"]] for fact in self.so_far.rounds[-2:])
        return self.so_far.rounds[-1]["moving"] and max(b / a for a, b in zip(before, last, strict=True)) > 1 + CHANGE

    def _differ(self, one: PosePrior, other: PosePrior) -> bool:
        """Whether errors differ by a good share of themselves, and visibly."""
        pixel, radius = self.images.pixel_size_angstrom, RADIUS * self.images.box * self.images.pixel_size_angstrom
        share = max(abs(one.turn / other.turn - 1), abs(one.shift / other.shift - 1))
        moved = max(radius * abs(one.turn - other.turn), abs(one.shift - other.shift))
        return share > CHANGE and moved > VISIBLE * pixel

    def _posteriors(
        self, consensus: Consensus, references: Callable[[Images, Consensus], Iterable[PoseReference]]
    ) -> Poses:
        images, count = self.images.with_noise(consensus.noise_power), len(self.images)
        self.log.stage(f"poses at {images.box} pixels")
        return pose_posteriors(
            images,
            references(images, consensus),
            self.so_far.trial,
            lambda done: self.log.advance(done / count, f"{done} of {count} images"),
        )


def _errors_said(poses: Poses) -> str:
    turn, shift = poses.unknown
    return (
        f"given poses are off by {math.degrees(poses.prior.turn):.2f} degrees and {poses.prior.shift:.2f} A, of which "
        f"{turn:.2f} degrees and {shift:.2f} A remain unknown"
    )


def pose_posteriors(
    images: Images,
    references: Iterable[PoseReference],
    start: Poses,
    progress: Callable[[int], None] = lambda done: None,
) -> Poses:
    """Posteriors of all poses against the densities of the halves of ``images``, which are at the poses of ``start``.

    ``progress`` is called with the number of images done.
    """
    device, done = images.device, 0
    before = start.mean.to(device)
    information, vector = torch.zeros(len(images), POSE, POSE, device=device), torch.zeros_like(before)
    latents: list[tuple[Tensor, Tensor]] = []
    for reference in references:
        begin = torch.cat([before[reference.rows], reference.latents], dim=1)
        end = torch.empty_like(reference.latents)
        batches = torch.arange(len(begin), device=device).split(images.batch)
        read = images.batches(reference.rows[places] for places in batches)
        for places, (rows, batch) in zip(batches, read, strict=True):
            step = pose_steps(batch, reference.density, begin[places], start.prior, STEPS)
            found = step.evidence()
            information[rows], vector[rows] = found.information, found.vector
            end[places] = step.mean[:, POSE:]
            done += len(rows)
            progress(done)
        latents.append((reference.rows, end[:, : reference.conformations]))
    evidence = PoseEvidence(information, vector)
    prior = evidence.fitted_prior(start.prior)
    mean, covariance = evidence.posterior(prior)
    for rows, of_half in latents:
        given = turned(images.rotations[rows], -before[rows, :3])
        mean[rows] = kept_frame(mean[rows], given, of_half)
    return Poses(mean.cpu(), covariance.cpu(), prior)
