r"""Parts as a stage of a run: how many, what they are, and whether they explain images better than the network.

Parts are looked for in the densities that the network decodes, and fitted to images. Images that were held out of all
training decide how many there are, and where the network stays (:mod:`.choice`), at a coarse box; and once more at the
full one: if their log likelihood under the parts is not above that under the network, with a still density from the
same images, there are no parts, and the run is as it was.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.latent_posterior import choose_states, gaussian_draws
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.fsc import masked_fsc
from cryoformer.imaging.grids import crop_volume
from cryoformer.linear.consensus import Backprojection
from cryoformer.linear.regions import Regions
from cryoformer.parts.choice import Candidate, PartChoice, gain_and_error
from cryoformer.parts.fit import FitState, PartFit
from cryoformer.parts.kept_density import MOST_GAINED, kept_density, share_gained
from cryoformer.parts.motion import LatentTerms, PartMotions, moved
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.parts.own_poses import OwnPoses, OwnPosterior, PartSpread
from cryoformer.parts.part_files import motion_error, part_motion
from cryoformer.parts.posterior import StatePosterior
from cryoformer.parts.rounds import DRAWS, LAST_DRAWS, PartRounds
from cryoformer.parts.start import STATES, PartStart, coarse_box, coarse_region, start_parts
from cryoformer.progress import RunLog
from cryoformer.training.held_out_filter import split_held_out

# A further part that explains no more than so much of what the others leave of the decoded densities is not tried.
LEAST_GAIN = 0.05
# Deviation of the decoded densities over the states, relative to their own, that is worth a look.
LEAST_SPREAD = 1e-4
# Standard errors by which held-out images must gain for parts to have poses of their own.
LEAST_OWN_GAIN = 2.0
PartPoses = Literal["chosen", "path", "own"]


@dataclass(frozen=True)
class FoundParts:
    """Parts that explain images better than the network, and the latents as they tell them.

    Attributes:
        population: latents of states drawn from the posteriors of all images: means are drawn in towards the middle,
            and a motion from end to end is larger than theirs.
    """

    density: MovingDensity
    latents: Float[Tensor, "n k"]
    covariance: Float[Tensor, "n k k"]
    population: Float[Tensor, "e k"]


class PartStage:
    """What a finished network and its images say of parts that move."""

    def __init__(
        self,
        images: Images,
        network: ConformationModel,
        latents: Float[Tensor, "n k"],
        covariance: Float[Tensor, "n k k"],
        occupancy: Float[Tensor, "d d d"],
        regions: Regions,
        log: RunLog,
        *,
        states: int,
        seed: int,
        poses: PartPoses = "chosen",
        checkpoint: Path | None = None,
    ) -> None:
        self.poses, self.checkpoint = poses, checkpoint
        self.images, self.network, self.log, self.seed = images, network, log, seed
        self.latents, self.covariance, self.occupancy, self.regions = latents, covariance, occupancy, regions
        self.support = states_of_population(latents, covariance, states, seed)
        self.rows, self.held_out = (rows.to(images.device) for rows in split_held_out(images.part.images, seed))

    def run(self, most: int) -> FoundParts | None:
        """At most so many parts; None where the network explains held-out images better."""
        self.log.stage("parts")
        fit = PartFit(self.images, self.rows, self.held_out, self.log, self.seed, self.network, self.checkpoint)
        choice = PartChoice(fit, self.occupancy.cpu(), self.support, self._first_draws())
        if self.checkpoint is not None and self.checkpoint.exists():
            state = FitState.load(self.checkpoint, self.occupancy.cpu(), self.support)
        else:
            chosen = self._choose(choice, most)
            if not len(chosen):
                self.log.record(stage="parts", parts=0)
                return None
            state = chosen.state
        rounds, posterior, state = fit.finish(state)
        found = Candidate(state, rounds.evidence(self.held_out))
        gain, error = found.over(choice.without_parts(state.model.motions.terms, self.images))
        facts = f"{_parts(len(found))}: held-out log likelihood {gain:+.3f} +- {error:.3f} over the network's"
        kept = len(found) if gain > 0 else 0
        self.log.record(stage="parts", parts=kept, tried=len(found), held_out_gain=gain, held_out_error=error)
        if gain <= 0:
            self.log.say(f"{facts}; the network stays")
            return None
        self.log.say(facts)
        return self._finished(rounds, posterior, state)

    def _choose(self, choice: PartChoice, most: int) -> Candidate:
        """The model under which held-out images are likeliest at the coarse box, of none, one, two ... parts."""
        terms = LatentTerms.of_population(self.latents.cpu())
        alone = best = choice.without_parts(terms)
        self.log.record(stage="parts_choice", parts=0, held_out=alone.likelihood)
        explained = 0.0
        for tried, start in enumerate(self._starts(most, terms), start=1):
            if start.explained < 1 - (1 - LEAST_GAIN) * (1 - explained):
                break
            explained = start.explained
            found = choice.fitted(start, best)
            gain, error = found.over(alone)
            facts = {"held_out": found.likelihood, "gain": gain, "error": error, "explained": explained}
            self.log.record(stage="parts_choice", parts=len(found), tried=tried, **facts)
            self.log.say(f"{_parts(len(found))}: held-out log likelihood {gain:+.3f} +- {error:.3f} over no part")
            if len(best) and found.likelihood <= best.likelihood:
                break
            best = max(best, found, key=lambda each: each.likelihood)
        self.log.say(f"held-out images choose {_parts(len(best))}")
        return best

    def _starts(self, most: int, terms: LatentTerms) -> Iterator[PartStart]:
        """One, two, ... parts as they explain the densities of some states; none where those are all the same."""
        full, pixel_size = self.images.box, self.images.voxel_angstrom
        box = coarse_box(full, pixel_size)
        coarse = pixel_size * full / box
        generator = torch.Generator().manual_seed(self.seed)
        some = self.latents[torch.randperm(len(self.latents), generator=generator)[:STATES].to(self.latents.device)]
        decoded = [crop_volume(torch.from_numpy(volume), box) for volume in self.network.volumes(some)]
        region = coarse_region(self.network.window.cpu(), box, coarse)
        if (moving := self.regions.to("cpu").at(box).moving) is not None:
            region &= moving > 0.5 * moving.max()
        densities = torch.stack(decoded)
        # A network that found no motion may decode the same for all particles, but for rounding.
        if not densities[:, region].std(dim=0).square().mean().sqrt() > LEAST_SPREAD * densities.std():
            return
        inside = densities[:, region]
        fading = share_gained(inside - inside.mean(dim=0)) > MOST_GAINED
        for parts in range(1, most + 1):
            yield start_parts(densities, some.cpu(), terms, region, coarse, parts, self.seed, fading=fading)

    def _first_draws(self) -> Int[Tensor, "n c"]:
        """States near draws from the latents' posteriors."""
        drawn = gaussian_draws(self.latents, self.covariance, DRAWS, self.seed)
        states = [torch.cdist(some, self.support).argmin(dim=1) for some in drawn.split(2**16)]
        return torch.cat(states).view(-1, DRAWS)

    def _finished(self, rounds: PartRounds, posterior: StatePosterior, state: FitState) -> FoundParts:
        """Densities from all images; latents as they were read last."""
        latents, covariance = posterior.moments(self.support)
        rounds.clear(posterior)
        own = self._own_poses(rounds, latents)
        rounds.rows = torch.arange(len(self.images), device=self.images.device)
        if own is None:
            draws, places = posterior.draws(LAST_DRAWS, self.seed + 1000), None
        else:
            draws = torch.arange(LAST_DRAWS * len(latents)).view(-1, LAST_DRAWS)
            along = rounds.motions.at(latents.repeat_interleave(LAST_DRAWS, dim=0))
            places = moved(along, gaussian_draws(*own, LAST_DRAWS, self.seed + 1000))
        rounds.update(draws, motions=False, places=places)
        rounds.update_still(draws, places)
        density = MovingDensity(
            rounds.densities,
            rounds.motions,
            rounds.masks,
            torch.stack([torch.stack(found.halves) for found in rounds.found]),
            torch.stack([_masked_fsc(found, mask) for found, mask in zip(rounds.found, rounds.masks, strict=True)]),
            None if own is None else own[0],
            self._kept(rounds),
        )
        population = self.support[posterior.draws(LAST_DRAWS, self.seed).reshape(-1)]
        for part in range(len(density)):
            self._tell(density.motions, part, population, state)
        return FoundParts(density, latents, covariance, population)

    def _kept(self, rounds: PartRounds) -> ConformationModel | None:
        """The network beside the parts, and what it says there."""
        window, kept = rounds.model.window, rounds.kept
        if window is None or kept is None:
            return None
        whole = kept_density(self.network, self.network.window, rounds.images.box, self.support)
        assert whole is not None
        share = kept.variance / whole.variance
        self.log.record(stage="kept", share=share, comes_and_goes=kept.comes_and_goes)
        self.log.say(
            f"beside the parts the network's density stays: {100 * share:.0f} % of what varies, "
            f"{'where density comes and goes' if kept.comes_and_goes else 'which moves in no part'}"
        )
        return self.network.within(window, -kept.mean)

    def _tell(self, motions: PartMotions, part: int, population: Float[Tensor, "e k"], state: FitState) -> None:
        """How a part moves, and how well that is known."""
        angle, axis, way = part_motion(motions, part, population)
        known = ""
        facts = {"degrees": angle, "angstrom": way, "axis": [round(x, 3) for x in axis.tolist()]}
        if state.of_halves is not None:
            halves = [replace(motions, coefficients=each) for each in state.of_halves]
            error, way_error = motion_error(motions, halves, part, population)
            known, facts = f" +- {error:.1f}", facts | {"error": error, "angstrom_error": way_error}
            facts["halves_degrees"] = [part_motion(each, part, population)[0] for each in halves]
        self.log.say(f"part {part + 1} turns by {angle:.0f}{known} degrees, its centre moves by {way:.0f} A")
        self.log.record(stage="part", part=part + 1, **facts)

    def _own_poses(self, rounds: PartRounds, latents: Float[Tensor, "n k"]) -> OwnPosterior | None:
        """Means and covariances of the parts' own poses, if held-out images gain by them (or as it was asked for)."""
        if self.poses == "path":
            return None
        reader = OwnPoses(rounds.residuals(rounds.cleared), rounds.densities, rounds.motions, latents)
        first, likelihood = reader.evidence()
        spreads, useful = [], False
        for part, evidence in enumerate(first):
            spread, held_out = evidence.take(self.rows.cpu()).fitted(), evidence.take(self.held_out.cpu())
            gains = held_out.log_evidence(spread) - held_out.log_evidence(None)
            gain, error = gain_and_error(gains)
            kept = self.poses == "own" or gain > LEAST_OWN_GAIN * error
            facts = {"degrees": math.degrees(spread.turn), "angstrom": spread.shift}
            self.log.record(stage="own_poses", part=part + 1, kept=kept, held_out=gain, error=error, **facts)
            spreads.append(spread if kept else PartSpread(0.0, 0.0))
            useful = useful or kept
        if not useful:
            return None
        found, spreads = reader.read(first, likelihood, spreads)
        for part, spread in enumerate(spreads):
            if spread.turn:
                self.log.say(
                    f"part {part + 1} has a pose of its own in every particle, {math.degrees(spread.turn):.1f} degrees "
                    f"about each axis and {spread.shift:.1f} A along it from where latents put it"
                )
        return found


def states_of_population(
    latents: Float[Tensor, "n k"], covariance: Float[Tensor, "n k k"], states: int, seed: int
) -> Float[Tensor, "s k"]:
    """Draws from the posteriors of random particles.

    Their means are drawn in towards the middle and do not reach the ends of a motion.
    """
    return choose_states(gaussian_draws(latents, covariance, 1, seed), states, seed)


def _masked_fsc(found: Backprojection, mask: Float[Tensor, "d d d"]) -> Float[Tensor, " s"]:
    halves = [half.cpu().numpy() for half in found.halves]
    return torch.from_numpy(masked_fsc(halves[0], halves[1], mask.cpu().numpy())).float()


def _parts(count: int) -> str:
    return "no part" if count == 0 else f"{count} part{'s' * (count > 1)}"
