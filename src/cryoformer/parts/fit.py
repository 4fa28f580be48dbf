"""Parts from a first idea to full resolution: rounds at a coarse box, then at the full one; kept on disk between them.

Of what is fitted at the coarse box one model goes on (:mod:`.choice`). The two halves of the images also go two rounds
for themselves there, each with densities and states of its own: by how much their motions differ says how well a
motion is known.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.decode.density_model import ConformationModel
from cryoformer.images.fourier_images import Images
from cryoformer.parts.density import PartDensities
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.posterior import StatePosterior
from cryoformer.parts.rounds import DRAWS, PartModel, PartRounds
from cryoformer.progress import RunLog

FIRST_BOX = 32
FIRST_ROUNDS, LAST_ROUNDS = 5, 1
HALF_ROUNDS = 2


@dataclass(frozen=True)
class FitState:
    """How far a fit is.

    Attributes:
        draws: states that the next densities are made with.
        densities: of the last round, at its box; None before the first.
        of_halves: the motions' coefficients as either half of the images has them.
        done: rounds.
    """

    model: PartModel
    draws: Int[Tensor, "n c"]
    densities: PartDensities | None = None
    of_halves: Float[Tensor, "2 m j 6"] | None = None
    done: int = 0

    def save(self, path: Path) -> None:
        """What :meth:`load` goes on from."""
        motions, densities = self.model.motions, self.densities
        assert densities is not None
        tensors = {f"terms.{name}": value for name, value in vars(motions.terms).items()}
        tensors |= {"pivots": motions.pivots, "coefficients": motions.coefficients, "masks": self.model.masks}
        tensors |= {"draws": self.draws.int(), "still": densities.still, "parts": densities.parts}
        if self.model.window is not None:
            tensors["window"] = self.model.window
        if self.of_halves is not None:
            tensors["of_halves"] = self.of_halves
        save_tensors(path, tensors, {"done": self.done, "pixel_size_angstrom": densities.pixel_size_angstrom})

    @staticmethod
    def load(path: Path, occupancy: Float[Tensor, "d d d"], support: Float[Tensor, "s k"]) -> "FitState":
        """The inverse of :meth:`save`; occupancy and support are those of the run."""
        tensors, facts = load_tensors(path)
        terms = LatentTerms(**{name: tensors[f"terms.{name}"] for name in ("mean", "whitening", "reference", "scale")})
        motions = PartMotions(terms, tensors["pivots"], tensors["coefficients"])
        return FitState(
            model=PartModel(motions, tensors["masks"], occupancy, support, tensors.get("window")),
            draws=tensors["draws"].long(),
            densities=PartDensities(tensors["still"], tensors["parts"], float(facts["pixel_size_angstrom"])),
            of_halves=tensors.get("of_halves"),
            done=int(facts["done"]),
        )


class PartFit:
    """The rounds, from the images of ``rows``; the held-out ones say in the log how it goes.

    Args:
        network: of which models may keep some.
        checkpoint: where the state of the chosen model is kept after every round from then on (None: nowhere).
    """

    def __init__(
        self,
        images: Images,
        rows: Int[Tensor, " r"],
        held_out: Int[Tensor, " h"],
        log: RunLog,
        seed: int,
        network: ConformationModel | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        self.images, self.rows, self.held_out, self.log, self.seed = images, rows, held_out, log, seed
        self.network, self.checkpoint = network, checkpoint
        self.low = images.crop(min(FIRST_BOX, images.box))

    def coarse(self, state: FitState, rounds_in_all: int) -> tuple[PartRounds, FitState]:
        """The rounds at the coarse box that are left of so many."""
        rounds = self.rounds(self.low, state)
        for number in range(state.done, rounds_in_all):
            state = self._round(rounds, state, number)
        return rounds, state

    def finish(self, state: FitState) -> tuple[PartRounds, StatePosterior, FitState]:
        """All that are left, at the full box too; the last densities, and the images' states under them."""
        if state.of_halves is None:
            rounds, state = self.coarse(state, FIRST_ROUNDS)
            state = self._keep(replace(state, of_halves=torch.stack([self._half(rounds, half) for half in (0, 1)])))
        rounds = self.rounds(self.images, state)
        for number in range(state.done, FIRST_ROUNDS + LAST_ROUNDS):
            state = self._keep(self._round(rounds, state, number))
        return rounds, rounds.read(), state

    def rounds(self, images: Images, state: FitState) -> PartRounds:
        """Rounds that go on from a state, at the box of these images."""
        rounds = PartRounds(images, state.model, self.rows, self.seed, self.network)
        if state.densities is not None and state.densities.box == images.box:
            rounds.densities = state.densities
            rounds.clear(state.draws)
        else:
            rounds.begin(state.draws, state.densities)
        return rounds

    def _round(self, rounds: PartRounds, state: FitState, number: int) -> FitState:
        posterior = rounds.round(number)
        draws = posterior.draws(DRAWS, self.seed + number)
        gain = float(posterior.evidence[self.held_out].mean())
        count, box = len(rounds.motions), rounds.images.box
        self.log.record(stage=f"parts_{box}", parts=count, round=number + 1, held_out=gain)
        self.log.advance((number + 1) / (FIRST_ROUNDS + LAST_ROUNDS + 2), f"held-out log likelihood {gain:.3f}")
        return replace(state, model=rounds.model, draws=draws, densities=rounds.densities, done=number + 1)

    def _keep(self, state: FitState) -> FitState:
        if self.checkpoint is not None:
            state.save(self.checkpoint)
        return state

    def _half(self, rounds: PartRounds, half: int) -> Float[Tensor, "m j 6"]:
        """Coefficients of the motions as one half of the images has them, from where all have come."""
        rows = self.rows[rounds.images.halves[self.rows] == half]
        # Its own halves take its images in turn, all rows of one on one side.
        shown = rounds.images.part.images[rows.cpu()].unique(return_inverse=True)[1]
        images = replace(rounds.images.take(rows), halves=(shown % 2).to(rows.device))
        every = torch.arange(len(images), device=images.device)
        own = PartRounds(images, rounds.model, every, self.seed, self.network)
        own.densities = rounds.densities
        for number in range(HALF_ROUNDS):
            own.round(number)
        return own.motions.coefficients
