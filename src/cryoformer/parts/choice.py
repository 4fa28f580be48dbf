r"""How many parts, and where the network's density stays: models of one molecule that held-out images choose from.

Without parts, the density is the network's. A part takes its place wherever the part ever is, and outside of what
parts reach the network may stay,

    sigma(x; z) = b(x) + sum_m V_m(T_m(z)^-1 x) + r(x; z),        m = 0, 1, 2, ... parts.

All are fitted at the coarse box, to the same images, with a still density of their own. In a model of several parts,
each may turn out not to move: where held-out images are likelier with the network in its place, the part is given up.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import Images
from cryoformer.imaging.grids import resample_volume
from cryoformer.parts.density import PartDensities, swept
from cryoformer.parts.fit import FIRST_ROUNDS, FitState, PartFit
from cryoformer.parts.kept_density import kept_density, window_outside
from cryoformer.parts.masks import part_masks
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.rounds import PartModel
from cryoformer.parts.start import PartStart

# Of what varies: what is left outside of the parts is worth being kept.
LEAST_KEPT = 0.01
# After as many rounds a model that is behind one of fewer parts is given up: two rounds more would bring little.
RACE_ROUNDS = 3


@dataclass(frozen=True)
class Candidate:
    """A model, and how likely the held-out images are under it.

    ``early``: what :attr:`likelihood` was after the first rounds.
    """

    state: FitState
    evidence: Float[Tensor, " h"]
    early: float = -math.inf

    def __len__(self) -> int:
        return len(self.state.model.motions)

    @property
    def likelihood(self) -> float:
        """Of a held-out image, on average."""
        return float(self.evidence.mean())

    def over(self, other: "Candidate") -> tuple[float, float]:
        """What held-out images gain over another model, and its standard error."""
        return gain_and_error(self.evidence - other.evidence)


def gain_and_error(gains: Float[Tensor, " h"]) -> tuple[float, float]:
    """Mean of what images gain, and its standard error."""
    return float(gains.mean()), float(gains.std()) / len(gains) ** 0.5


class PartChoice:
    """Candidates from the images that ``fit`` learns from."""

    def __init__(
        self,
        fit: PartFit,
        occupancy: Float[Tensor, "d d d"],
        support: Float[Tensor, "s k"],
        draws: Int[Tensor, "n c"],
    ) -> None:
        assert fit.network is not None
        self.fit, self.network, self.occupancy, self.support, self.draws = fit, fit.network, occupancy, support, draws

    def without_parts(self, terms: LatentTerms, images: Images | None = None) -> Candidate:
        """The network alone; at the coarse box unless other images are given."""
        images = self.fit.low if images is None else images
        motions = PartMotions(terms, torch.zeros(0, 3), torch.zeros(0, len(terms.scale), 6))
        nothing, box = torch.zeros(0, *self.occupancy.shape), images.box
        model = PartModel(motions, nothing, self.occupancy, self.support, self.network.window)
        densities = PartDensities(torch.zeros(box, box, box), torch.zeros(0, box, box, box), images.pixel_size_angstrom)
        found = self._judged(images, FitState(model, self.draws, densities))
        return replace(found, early=found.likelihood)

    def fitted(self, start: PartStart, rival: Candidate) -> Candidate:
        """As many parts as a start has, and the network outside of them, where it has anything to say there.

        Without what held-out images do not ask for. A model that is behind its rival early is left as it is then.
        """
        masks = part_masks(start, self.network.box, self.network.pixel_size_angstrom)
        model = self._with_window(PartModel(start.motions, masks, self.occupancy, self.support))
        found = self.pruned(self._after(FitState(model, self.draws), RACE_ROUNDS))
        early = found.likelihood
        if early > rival.early:
            found = self._after(found.state, FIRST_ROUNDS)
        return replace(found, early=early)

    def _after(self, state: FitState, rounds_in_all: int) -> Candidate:
        rounds, state = self.fit.coarse(state, rounds_in_all)
        return Candidate(state, rounds.evidence(self.fit.held_out))

    def pruned(self, found: Candidate) -> Candidate:
        """Without the parts, or the network, that held-out images do not ask for."""
        fewer = found
        # Two parts may lie on one another: then neither is missed until both are gone.
        while len(fewer) > 1:
            fewer = max((self._without(fewer, part) for part in range(len(fewer))), key=lambda each: each.likelihood)
            found = max(found, fewer, key=lambda each: each.likelihood)
        if found.state.model.window is not None:
            model = replace(found.state.model, window=None)
            plain = self._judged(self.fit.low, replace(found.state, model=model))
            found = max(found, plain, key=lambda each: each.likelihood)
        return found

    def _without(self, found: Candidate, part: int) -> Candidate:
        """The network where a part was."""
        state, model = found.state, found.state.model
        assert state.densities is not None
        others = [number for number in range(len(found)) if number != part]
        motions = replace(
            model.motions, pivots=model.motions.pivots[others], coefficients=model.motions.coefficients[others]
        )
        model = self._with_window(replace(model, motions=motions, masks=model.masks[others]))
        densities = replace(state.densities, parts=state.densities.parts[others])
        return self._judged(self.fit.low, replace(state, model=model, densities=densities))

    def _judged(self, images: Images, state: FitState) -> Candidate:
        """A model with its still density made anew."""
        rounds = self.fit.rounds(images, state)
        rounds.update_still(state.draws)
        return Candidate(replace(state, densities=rounds.densities), rounds.evidence(self.fit.held_out))

    @cached_property
    def _variance(self) -> float:
        """Of the network alone."""
        whole = kept_density(self.network, self.network.window, self.fit.low.box, self.support)
        return 0.0 if whole is None else whole.variance

    def _with_window(self, model: PartModel) -> PartModel:
        """The network where the parts of the model never are, unless that is next to nothing."""
        low, window = self.fit.low, self.network.window
        masks = torch.stack([resample_volume(mask, low.box) for mask in model.masks])
        reached = swept(masks, low.pixel_size_angstrom, model.motions, self.support)
        outside = window_outside(window, reached)
        left = kept_density(self.network, outside, low.box, self.support)
        if left is None or left.variance < LEAST_KEPT * self._variance:
            return replace(model, window=None)
        return replace(model, window=outside)
