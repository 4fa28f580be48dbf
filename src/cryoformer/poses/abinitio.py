r"""Poses and a map from images without poses.

1. Stochastic EM from nothing (:mod:`.stochastic_em`), several times. Images held out say which map is best, and whether
   there is structure at all (:mod:`.structure`); how well the maps agree is recorded.
2. The two best go on with more images a step. The better one then goes on to a wider band, if that makes images held
   out likelier.
3. All images are searched against it (:mod:`.global_search`).
4. Views that the map cannot tell apart, because it came out more symmetric than the particle, are told apart in a
   wider band (:mod:`.mode_selection`).

Where rough rotations are known (:mod:`.cone`) they take part in 1 and 4, and one start is enough: it begins with the
back-projection at these, which holds little but where particles are heavy, and says which way round, and which hand.

What follows is the refinement of poses that are roughly known (:mod:`.rounds`), with the halves apart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.grids import crop_volume
from cryoformer.particles.repeats import between_images, shuffled
from cryoformer.poses.background import background_power, particle_radius
from cryoformer.poses.global_search import FIRST_BEHIND, PoseModes, climb, climbing_box, search
from cryoformer.poses.map_alignment import align_maps, self_alignments
from cryoformer.poses.matching import BandImages
from cryoformer.poses.mode_selection import select_modes, select_within, with_equivalents
from cryoformer.poses.posterior import PosePrior, SlopedDensity
from cryoformer.poses.repeated_search import RepeatedSearch
from cryoformer.poses.stochastic_em import Marching, StochasticMap, stochastic_map
from cryoformer.poses.structure import StructureTest, rotation_average, structure_test
from cryoformer.poses.symmetry import rotation_group
from cryoformer.progress import RunLog

BOX = 32
# Starts, and how many of them go on: two that come to the same map have found the particle.
STARTS, BEST = 3, 2
# Shares of a time budget after which no other start, and no other search, is begun.
STARTS_SHARE, SEARCHES_SHARE = 0.3, 0.5
# A tenth of the images says which start is best; of very many images, so many are enough for a map.
HELD_OUT, MOST_HELD_OUT, MOST_IMAGES = 10, 1000, 20_000
FIRST = Marching(first=6.0, last=7.5, batch=(200, 400))
SECOND = Marching(first=6.0, last=7.5, batch=(400, 600))
THIRD = Marching(first=7.5, last=9.0, batch=(400, 600))
# The size of a particle (:func:`.particle_radius`) for which these bands are meant, and the smallest share of it; bands
# end so many shells before the edge of the box.
FILLED, LEAST_FILL, EDGE = 0.24, 0.7, 3.0
# Particles lie no farther from the centre of their image than this share of the box, along an axis.
REACH = 1 / 16
# Maps of two starts whose uneven parts correlate by less than this are not the same; one start alone shows nothing.
AGREE, LEAST_STARTS = 0.8, 2
# A map lies on itself in views that it cannot tell apart from such a correlation on; so many of them at most.
ALIKE, MOST_ALIKE = 0.9, 11
# How far a mode may be behind the best, once it was followed uphill, to stay.
BEHIND = 6.0
CHOICE_SHELLS = 10.0


@dataclass
class Findings:
    """What was found so far: arrays, and facts as plain values. Written to disk whenever something is added."""

    path: Path
    arrays: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def at(path: Path) -> "Findings":
        """What an earlier call left, or nothing."""
        return Findings(path, *load_tensors(path)) if path.exists() else Findings(path)

    def add(self, facts: dict[str, Any] | None = None, **arrays: Tensor) -> None:
        """Keep these."""
        self.arrays |= arrays
        self.facts |= facts or {}
        save_tensors(self.path, self.arrays, self.facts)

    @property
    def has_structure(self) -> bool:
        """Whether images held out are likelier under the map than under a round one, another start found it too, and it
        is no body of revolution."""
        return bool(self.facts["structure"]["found"]) and self.starts_agree and not self.turns_on_itself

    @property
    def complete(self) -> bool:
        """Whether nothing is left to look for."""
        return "structure" in self.facts and (not self.has_structure or "rotations" in self.arrays)

    @property
    def turns_on_itself(self) -> bool:
        """Whether the map lies on itself in so many views that images cannot tell which of them they are."""
        return len(self.facts.get("views_alike", [])) >= MOST_ALIKE

    @property
    def starts_agree(self) -> bool:
        """Whether at least one other start came to the same map."""
        return max(self.facts["agreement_of_starts"], default=1.0) >= AGREE

    @property
    def sentence(self) -> str:
        """What the images held out, and the starts, say of structure."""
        if self.turns_on_itself:
            return (
                f"no structure shown: the map from nothing lies on itself in {MOST_ALIKE} other views or more, as a "
                "body of revolution does, so poses would be drawn by lot; for a point group give --symmetry"
            )
        if self.starts_agree:
            return str(self.facts["said"])
        agreement = max(self.facts["agreement_of_starts"])
        return (
            f"no structure shown: starts from nothing end at different maps (the two most alike correlate by "
            f"{agreement:.2f} where they are not round), so that poses would be those of one of many"
        )


class AbInitio:
    """The search for poses of some images (not shifted, of any box), on from what ``findings`` has.

    Args:
        over: whether this share of the time is over.
        cone_degrees: how far rotations may be from those that images have, if these are not to be forgotten.
    """

    def __init__(
        self,
        images: Images,
        findings: Findings,
        seed: int,
        log: RunLog,
        symmetry: str = "C1",
        over: Callable[[float], bool] = lambda share: False,
        cone_degrees: float | None = None,
    ) -> None:
        box = min(BOX, images.box)
        size = particle_radius(images.crop(box))
        # At the box that the images came in: edges of images that are cropped reach far into these.
        low = images.with_noise(background_power(images)).crop(box)
        self.images, self.kept = low, images.noise_kept
        fill = min(1.0, max(LEAST_FILL, size / FILLED))
        self.first, self.second, self.third = (each.filled(fill, low.box / 2 - EDGE) for each in (FIRST, SECOND, THIRD))
        self.findings, self.seed, self.log, self.over = findings, seed, log, over
        self.cone_degrees, self.starts = cone_degrees, STARTS if cone_degrees is None else 1
        self.group = rotation_group(symmetry)
        self.reach = REACH * low.box * low.pixel_size_angstrom

    def run(self) -> None:
        """All that is not done yet; stops early where there is no structure."""
        if "structure" not in self.findings.facts:
            self._find_map()
        if self.findings.has_structure and "rotations" not in self.findings.arrays:
            self._find_poses()

    def _find_map(self) -> None:
        found, seed = self.findings, self.seed
        images = self.images.part.images.numpy()
        rows = shuffled(images, np.random.default_rng(seed))
        held_out = between_images(rows, images, max(1, min(MOST_HELD_OUT, len(rows) // HELD_OUT)))
        parts = np.split(rows[: held_out + MOST_IMAGES], [held_out])
        others, used = (BandImages.of(self._take(some), self.cone_degrees) for some in parts)
        shown = np.unique(images[np.sort(parts[1])], return_inverse=True)[1]
        for number in range(self.starts):
            name = f"start_{number}"
            if name in found.arrays or (number >= LEAST_STARTS and self.over(STARTS_SHARE)):
                continue
            self.log.stage(f"start {number + 1} of {self.starts}")
            start = stochastic_map(
                used, shown, self.first, self.reach, 1000 * seed + number, self.group, None, self.kept, self.log.advance
            )
            self._keep(name, start, others)
        names = sorted((name for name in found.arrays if name.startswith("start_")), key=self._likelihood, reverse=True)
        for number, name in enumerate(names[:BEST]):
            if f"onward_{name}" not in found.arrays:
                start = self._onward(used, shown, found.arrays[name], self.second, STARTS + number)
                self._keep(f"onward_{name}", start, others)
        best, *rest = sorted((f"onward_{name}" for name in names[:BEST]), key=self._likelihood, reverse=True)
        agreement = [self._agreement(found.arrays[best], found.arrays[name]) for name in rest]
        volume, shells, noise = found.arrays[best], found.facts[best]["band"], found.arrays[f"noise_{best}"]
        test = StructureTest(*(found.facts[best][name] for name in ("log_likelihood", "gain", "error")))
        further = self._onward(used, shown, volume, self.third, STARTS + BEST)
        further_test = structure_test(others, further.volume, further.shells, self.reach, seed)
        if further_test.log_likelihood > test.log_likelihood:
            volume, shells, noise, test = further.volume, further.shells, further.noise, further_test
        else:
            # A wider band says more of particles; if it makes other images less likely, what it says was noise.
            self.log.say(f"a band of {further.shells:g} shells explains other images no better than {shells:g} do")
        structure = {"found": test.found, "gain": test.gain, "error": test.error, "band": shells}
        said = {"best_start": best, "agreement_of_starts": agreement, "structure": structure, "said": test.sentence}
        found.add(said, map=volume.clone(), noise=noise.clone())
        self.log.say(found.sentence)

    def _keep(self, name: str, found: StochasticMap, others: BandImages) -> None:
        """A map, and what images that had no part in it say of it."""
        test = structure_test(others, found.volume, found.shells, self.reach, self.seed)
        facts = {"log_likelihood": test.log_likelihood, "gain": test.gain, "error": test.error, "band": found.shells}
        self.findings.add({name: facts}, **{name: found.volume, f"noise_{name}": found.noise})
        self.log.say(f"log likelihood of images held out: {test.log_likelihood:.2f}; {test.sentence}")

    def _likelihood(self, name: str) -> float:
        return float(self.findings.facts[name]["log_likelihood"])

    def _onward(
        self, images: BandImages, shown: Int[np.ndarray, " n"], volume: Tensor, marching: Marching, number: int
    ) -> StochasticMap:
        """On from a map."""
        self.log.stage(f"going on to {marching.last:g} shells")
        return stochastic_map(
            images,
            shown,
            marching,
            self.reach,
            1000 * self.seed + number,
            self.group,
            volume,
            self.kept,
            self.log.advance,
        )

    def _agreement(self, best: Float[Tensor, "d d d"], other: Float[Tensor, "d d d"]) -> float:
        """How well two maps lie on one another, apart from what is round about them: all particles are that."""
        one, two = (volume - rotation_average(volume) for volume in (best, other))
        return align_maps(one, two, self.seed).correlation

    def _find_poses(self) -> None:
        found = self.findings
        noise = found.arrays["noise"][: self.images.box // 2 + 1] * self.images.noise_power
        images = self.images.with_noise(noise)
        volume, shells = found.arrays["map"], found.facts["structure"]["band"]
        count = len(images)
        self.log.stage("searching all views")
        modes = search(
            images,
            volume,
            shells,
            self.reach,
            self.seed,
            self.group,
            lambda done: self.log.advance(done / count),
        )
        alike = self_alignments(volume, ALIKE, MOST_ALIKE, self.group.double().numpy(), self.seed)
        if len(alike) >= MOST_ALIKE:
            found.add({"views_alike": [each.correlation for each in alike]})
            self.log.say(found.sentence)
            return
        if alike:
            self.log.say(f"the map nearly lies on itself in {len(alike)} other views; images will say which is which")
        self.log.stage("following the best views uphill")
        low = images.crop(climbing_box(images.box, shells))
        density = SlopedDensity(crop_volume(volume, low.box)[None], low.pixel_size_angstrom)
        prior = PosePrior(math.radians(6.0), 0.4 * self.images.pixel_size_angstrom)
        modes = climb(
            low, density, modes.trimmed(FIRST_BEHIND), prior, 3, lambda done: self.log.advance(done / count)
        ).trimmed(BEHIND)
        self.log.stage("telling views apart")
        modes = with_equivalents(modes, alike, images.pixel_size_angstrom)
        choice = min(max(CHOICE_SHELLS, shells), images.box / 2 - 1)
        modes, volume = select_modes(images, modes, choice, self.seed, self.group, self.log.advance)
        if self.cone_degrees is not None:
            modes, volume = select_within(
                images, modes, self.cone_degrees, choice, self.seed, self.group, self.log.advance
            )
        certainty = float(modes.weights.amax(dim=1).mean())
        facts: dict[str, Any] = {"views_alike": [each.correlation for each in alike], "certainty": certainty}
        if self.cone_degrees is None:
            modes, facts["better_views"] = self._again(images, modes, choice, prior)
        rotations, shifts = modes.best()
        found.add(facts, rotations=rotations, shifts=shifts, map=volume)

    def _again(
        self, images: Images, modes: PoseModes, shells: float, prior: PosePrior
    ) -> tuple[PoseModes, list[float]]:
        """Modes under maps at the poses found, where these have better ones; and for what share of the images."""
        self.log.stage("searching maps at the poses found")
        again = RepeatedSearch(
            images, shells, self.reach, prior, self.group, self.seed, lambda: self.over(SEARCHES_SHARE)
        )
        modes, shares = again.run(modes, self.log.advance)
        said = ", then ".join(f"{100 * share:.0f} %" for share in shares)
        self.log.say(f"images of a sample that have a better view there: {said or 'not looked for, the time is up'}")
        return modes, shares

    def _take(self, rows: np.ndarray) -> FourierImages:
        return self.images.take(torch.from_numpy(np.sort(rows)).to(self.images.device))
