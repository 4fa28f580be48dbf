"""How many parts there are, and where the network stays: what held-out images choose."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryoformer.decode.density_model import ConformationModel
from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.parts import choice
from cryoformer.parts.choice import Candidate, PartChoice
from cryoformer.parts.fit import FitState, PartFit
from cryoformer.parts.kept_density import kept_density, share_gained, window_outside
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.rounds import PartModel
from cryoformer.parts.start import PartStart, start_parts
from cryoformer.progress import RunLog
from known_network import known_network
from swinging_bar import ANGLE, PIVOT, bar, body, own_masks, turn
from toy_images import BOX, PIXEL, blob, white_images

COUNT = 300
LUMP = torch.tensor([-15.0, -25.0, -10.0])


def variable(t: float, there: float, points: torch.Tensor, share: float = 1.0) -> torch.Tensor:
    """The bar, turned by a share of what it should be, and the lump."""
    turned = turn(0.5 + share * (t - 0.5))
    places = [(turned @ place + PIVOT, 6.0, 1.0) for place in bar()] + [(LUMP, 8.0, there)]
    squares = ((points - place).square().sum(dim=1) / (2 * sigma**2) for place, sigma, _ in places)
    return sum(weight * torch.exp(-square) for square, (_, _, weight) in zip(squares, places, strict=True))


def network() -> ConformationModel:
    """It knows the lump, but turns the bar by half of its angle."""
    return known_network(lambda z, points: variable(float(z[0]), float(z[1]), points, 0.5), torch.tensor([0.5, 1.0]))


def simulate() -> tuple[FourierImages, torch.Tensor]:
    """A bar that swings, and a lump that half of the images lack; latents are the truth."""
    rng = np.random.default_rng(3)
    latents = torch.from_numpy(np.stack([rng.uniform(0, 1, COUNT), rng.integers(0, 2, COUNT)], axis=1)).float()
    grid, noise = grid_points(BOX, PIXEL), 0.7
    density = torch.stack([body().reshape(-1) + variable(float(t), float(there), grid) for t, there in latents])
    rotations = torch.tensor(uniform_rotations(COUNT, 3), dtype=torch.float32)
    clean = splat_project(density, grid, rotations, None, BOX, PIXEL)
    pixels = noise * torch.randn(COUNT, BOX, BOX, generator=torch.Generator().manual_seed(3))
    return white_images(clean + torch.fft.rfft2(pixels), rotations, noise), latents


def two_parts(latents: torch.Tensor) -> PartMotions:
    """The bar as it swings, and the lump, moved away where it is not there."""
    terms = LatentTerms.of_population(latents)
    wanted = torch.zeros(2, COUNT, 6)
    wanted[0, :, 2] = ANGLE * (latents[:, 0] - 0.5)
    wanted[1, :, 5] = 15.0 * (1 - latents[:, 1])
    fitted = torch.stack([torch.linalg.lstsq(terms(latents), each).solution for each in wanted])
    return PartMotions(terms, torch.stack([PIVOT, LUMP]), fitted)


@pytest.fixture(scope="module")
def chosen() -> tuple[Candidate, Candidate, Candidate]:
    """The network alone, two parts, and what is left of those."""
    images, latents = simulate()
    rows, held_out = torch.arange(COUNT - 50), torch.arange(COUNT - 50, COUNT)
    support = latents[:32]
    draws = torch.cdist(latents, support).argmin(dim=1)[:, None].repeat(1, 2)
    occupancy = (grid_points(BOX, PIXEL).norm(dim=1) < 55.0).float().view(BOX, BOX, BOX)
    masks = torch.cat([own_masks(), (grid_points(BOX, PIXEL).norm(dim=1) < 18.0).float().view(1, BOX, BOX, BOX)])
    with RunLog(None) as log:
        known = network()
        fitting = PartFit(images, rows, held_out, log, 0, known)
        offered = PartChoice(fitting, occupancy, support, draws)
        model = PartModel(two_parts(latents), masks, occupancy, support)
        rounds, state = fitting.coarse(FitState(model, draws), 2)
        both = Candidate(state, rounds.evidence(held_out))
        return offered.without_parts(model.motions.terms), both, offered.pruned(both)


def test_motion_becomes_a_part_and_what_comes_and_goes_stays_with_the_network(chosen):
    alone, both, found = chosen
    assert len(found) == 1
    torch.testing.assert_close(found.state.model.motions.pivots, PIVOT[None])
    gain, error = found.over(alone)
    assert gain > 2 * error
    gain, error = found.over(both)
    assert gain > 2 * error
    window = found.state.model.window
    at = tuple((LUMP.flip(0) / PIXEL + BOX // 2).round().long())
    assert window[at] > 0.9
    assert window[tuple((PIVOT.flip(0) / PIXEL + BOX // 2).round().long())] < 0.1


def test_a_model_that_is_behind_early_is_not_gone_on_with(chosen, monkeypatch: pytest.MonkeyPatch):
    _, both, found = chosen

    class Offered(PartChoice):
        def __init__(self) -> None:
            self.network, self.occupancy = network(), torch.ones(BOX, BOX, BOX)
            self.support, self.draws, self.asked = torch.zeros(4, 2), torch.zeros(COUNT, 2).long(), []

        def _with_window(self, model: PartModel) -> PartModel:
            return model

        def _after(self, state: FitState, rounds_in_all: int) -> Candidate:
            self.asked.append((rounds_in_all, len(state.model.motions)))
            return both

        def pruned(self, found: Candidate) -> Candidate:
            return chosen[2]

    monkeypatch.setattr(choice, "part_masks", lambda *_: torch.ones(2, BOX, BOX, BOX))
    start = PartStart(two_parts(simulate()[1]), torch.ones(3, 16, 16, 16), torch.ones(16, 16, 16), 0.9)
    for early, asked in ((found.likelihood - 0.1, [(3, 2), (5, 1)]), (found.likelihood + 0.1, [(3, 2)])):
        offered = Offered()
        rival = replace(both, early=early)
        assert offered.fitted(start, rival).early == found.likelihood
        # What is gone on with is what was left after pruning.
        assert offered.asked == asked


def test_what_is_kept_is_what_the_network_decodes_there():
    known, latents = network(), torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    reached = (blob(tuple(PIVOT.tolist()), 12.0) + blob((45.0, 0.0, 0.0), 12.0)) > 0.1
    kept = kept_density(known, window_outside(known.window, reached), BOX, latents)
    found = (kept.weights @ kept.basis.flatten(1)).view(-1, BOX, BOX, BOX)
    lump = torch.stack([there * blob(tuple(LUMP.tolist()), 8.0) for there in latents[:, 1]])
    core = blob(tuple(LUMP.tolist()), 8.0) > 0.3
    torch.testing.assert_close(found[:, core], (lump - lump.mean(dim=0))[:, core], atol=0.02, rtol=0)
    # The lump comes and goes; a network that is kept whole swings as well.
    assert kept.comes_and_goes


def test_the_share_gained_is_nothing_for_motion_and_all_for_what_comes_and_goes():
    assert share_gained(torch.tensor([[1.0, -1.0], [-2.0, 2.0]])) == pytest.approx(0.0, abs=1e-6)
    assert share_gained(torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])) == pytest.approx(1.0)


def test_parts_that_come_and_go_are_no_start():
    latents = torch.rand(24, 2, generator=torch.Generator().manual_seed(5))
    latents[:, 1] = (latents[:, 1] > 0.5).float()
    grid = grid_points(BOX, PIXEL)
    densities = torch.stack([variable(float(t), float(there), grid) for t, there in latents]).view(-1, BOX, BOX, BOX)
    region = densities.amax(dim=0) > 0.02
    terms = LatentTerms.of_population(latents)
    start = start_parts(densities, latents, terms, region, PIXEL, 2, 0, fading=True)
    assert len(start.motions) == 1
    assert (start.motions.pivots[0] - PIVOT).norm() < 25
    at = tuple((LUMP.flip(0) / PIXEL + BOX // 2).round().long())
    assert start.members[0][at] > 0.9


def test_a_network_is_kept_nowhere_where_nothing_is_left_of_its_window():
    known = network()
    window = window_outside(known.window, torch.ones(BOX, BOX, BOX, dtype=torch.bool))
    assert kept_density(known, torch.zeros_like(window), BOX, torch.rand(4, 2)) is None
