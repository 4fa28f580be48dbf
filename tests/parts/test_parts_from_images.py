"""Parts from images of a body and a bar that swings: slopes, the motion that images ask for, densities, the choice."""

import numpy as np
import pytest
import roma
import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.parts.density import MovedParts, PartDensities
from cryoformer.parts.motion import LatentTerms, PartPlaces
from cryoformer.parts.posterior import StatePosterior
from cryoformer.parts.rounds import PartRounds
from cryoformer.parts.start import start_parts
from cryoformer.parts.update import PartProjector, part_slopes
from swinging_bar import ANGLE, PIVOT, bar, body, density, model_of, motions_of, simulate, states, swing, turn
from toy_images import BOX, PIXEL, blob


@pytest.fixture(scope="module")
def swinging() -> tuple[FourierImages, np.ndarray]:
    """240 images without CTF at a signal-to-noise ratio of about one half, and where each stands."""
    return simulate(torch.zeros(240, 3))


def test_slopes_are_the_derivatives_by_turn_and_shift():
    part = sum(blob(tuple(place.tolist()), 9.0) for place in bar())
    densities = PartDensities(torch.zeros(BOX, BOX, BOX), part[None], PIXEL)
    rotations = roma.special_procrustes(torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(3)))
    some = FourierImages(rotations, torch.ones(3), torch.zeros(3).long(), torch.ones(13), PIXEL, PIXEL,
                         torch.zeros(3, BOX, 13, dtype=torch.complex64), torch.ones(3, BOX, 13))  # fmt: skip
    turns, centres = torch.stack([turn(t) for t in (0.0, 0.3, 0.9)])[None], torch.randn(1, 3, 3) * 5
    draws = torch.tensor([[0, 1], [2, 0], [1, 1]])

    def at(change: torch.Tensor):
        places = PartPlaces(roma.rotvec_to_rotmat(change[:3]) @ turns, centres + change[3:])
        projector = PartProjector(densities, places, sloped=True)
        slices = projector.slices(some, draws)
        return projector, slices, projector.values(slices)[0]

    projector, slices, value = at(torch.zeros(6))
    slopes = part_slopes(projector, value, slices.rotations[0], slices.molecule)
    for number in range(6):
        change = torch.zeros(6)
        change[number] = 0.02 if number < 3 else 0.2
        numeric = (at(change)[2][..., 0] - at(-change)[2][..., 0]) / (2 * change[number])
        error = (numeric - slopes[..., number]).abs().square().sum() / numeric.abs().square().sum()
        # Slices are interpolated linearly, which slopes are not.
        assert error < (0.1 if number < 3 else 1e-3)


def started(images: FourierImages, t: np.ndarray, share: float) -> tuple[PartRounds, torch.Tensor]:
    """Rounds with the true densities, but only a share of the motion, and the state that every image is in."""
    rounds = PartRounds(images, model_of(motions_of(share)), torch.arange(len(images)), seed=0)
    part = sum(blob(tuple(place.tolist()), 6.0) for place in bar())
    rounds.densities = PartDensities(body(), part[None], PIXEL)
    return rounds, torch.from_numpy((t * 31).round()).long()[:, None]


def test_images_correct_a_motion_that_is_too_small(swinging):
    images, t = swinging
    rounds, true_states = started(images, t, share=0.7)
    for _ in range(5):
        densities = rounds.densities
        rounds.update(true_states)
        rounds.densities = densities
    assert abs(swing(rounds.motions) / ANGLE - 1) < 0.05


def test_a_round_reads_states_and_finds_both_densities(swinging):
    images, t = swinging
    rounds, _ = started(images, t, share=1.0)
    rounds.densities = PartDensities(0.9 * body(), 0.9 * rounds.densities.parts, PIXEL)
    posterior = rounds.round(0)
    latents = posterior.probabilities @ rounds.model.support
    assert np.corrcoef(latents[:, 0], t)[0, 1] > 0.95
    assert float(rounds.read().evidence.mean()) > float(posterior.evidence.mean())
    found = MovedParts(rounds.densities.parts, PIXEL).at(rounds.motions.at(states(2)), 1)
    whole = torch.from_numpy(found) + rounds.densities.still
    assert np.corrcoef(whole.reshape(-1), density(1.0).reshape(-1))[0, 1] > 0.97
    assert len(rounds.found) == 1
    assert rounds.found[0].half_map_fsc[3] > 0.5


def test_moved_volumes_are_where_motions_take_them():
    part = sum(blob(tuple(place.tolist()), 9.0) for place in bar())
    moved = MovedParts(part[None], PIXEL).at(motions_of(1.0).at(torch.tensor([[1.0]])), 0)
    wanted = sum(blob(tuple((turn(1.0) @ place + PIVOT).tolist()), 9.0) for place in bar())
    half = turn(0.5)  # the reference stands in the middle
    torch.testing.assert_close(half, torch.eye(3))
    assert np.abs(moved - wanted.numpy()).max() < 0.05


def test_draws_follow_the_posterior():
    probabilities = torch.tensor([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0]])
    draws = StatePosterior(probabilities, torch.zeros(2)).draws(4, seed=0)
    assert sorted(draws[0].tolist()) == [0, 0, 2, 2]
    assert draws[1].tolist() == [1, 1, 1, 1]


def fitted_to(volumes: list[torch.Tensor], latents: torch.Tensor):
    terms = LatentTerms.of_population(latents)
    region = torch.stack(volumes).std(dim=0) > 0.02
    return start_parts(torch.stack(volumes), latents, terms, region, PIXEL, parts=1, seed=0, steps=150)


def test_decoded_densities_tell_a_swing():
    latents = torch.linspace(0, 1, 24)[:, None]
    start = fitted_to([density(float(t)) for t in latents], latents)
    assert start.explained > 0.9
    assert abs(swing(start.motions) / ANGLE - 1) < 0.25


def test_what_comes_and_goes_is_no_motion():
    latents = torch.linspace(0, 1, 24)[:, None]
    start = fitted_to([body() + float(t) * blob((30.0, 0.0, 0.0), 8.0) for t in latents], latents)
    assert start.explained < 0.7
