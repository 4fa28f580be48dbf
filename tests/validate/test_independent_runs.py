"""Two runs that agree and two that do not, with states matched through particles."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import BOX, STATES, ToyRun
from cryoformer.assess.masks import molecule_mask, moving_mask
from cryoformer.imaging.fsc import fourier_shell_correlation
from cryoformer.validate.independent_runs import (
    IndependentRuns,
    compare_runs,
    correlation,
    deviations_from_mean,
    flattened,
    parts,
    runs_outcome,
)


class HalfRun(ToyRun):
    """The toy run with a latent space and noise of its own. ``wrong``: decodes another particle's state."""

    def __init__(self, path: Path, sign: float, noise: float, seed: int, wrong: bool = False) -> None:
        super().__init__(path)
        self.sign, self.wrong = sign, wrong
        self.noise = noise * np.random.default_rng(seed).standard_normal((BOX,) * 3)
        self.order = np.array([2, 0, 4, 1, 3]) if wrong else np.arange(STATES)

    def latent_volumes(self, z: np.ndarray) -> Iterator[np.ndarray]:
        for latent in z:
            state = self.order[int(np.clip(round(self.sign * latent[0] + 2.0), 0, STATES - 1))]
            yield self.states[state] + self.noise


def compared(tmp_path: Path, wrong: bool = False) -> IndependentRuns:
    first, second = HalfRun(tmp_path, 1.0, 0.01, 0), HalfRun(tmp_path, -1.0, 0.01, 1, wrong)
    moving = moving_mask(first.states, 4.0)
    assert moving is not None
    masks = molecule_mask(first.states, 4.0), moving
    # The latent space of the second run is the first one's mirror image.
    latents = first.latents, -second.latents
    half_maps = np.stack([first.states.mean(axis=0) + run.noise for run in (first, second)])
    return compare_runs(first, second, latents, masks, half_maps, seed=0, states=STATES)


def test_runs_that_found_the_same_motion_agree(tmp_path: Path) -> None:
    test = compared(tmp_path)
    assert test.motion_correlation > 0.95
    assert test.spread_correlation > 0.95
    assert test.p_value < 0.05
    assert np.allclose(test.shares, 1 / STATES, atol=0.02)
    assert np.median(test.resolutions(test.molecule_fsc)) < 2 * BOX * 4.0 / 6
    outcome = runs_outcome(test)
    assert outcome.verdict == "holds"
    assert len(outcome.numbers["resolution_consensus_angstrom"]) == 2


def test_runs_with_states_in_another_order_do_not(tmp_path: Path) -> None:
    test = compared(tmp_path, wrong=True)
    assert test.motion_correlation < 0.5
    outcome = runs_outcome(test)
    assert outcome.verdict == "fails"
    assert "different motions" in outcome.sentence


def test_correlation_of_deviations_is_one_with_itself_minus_one_with_its_negative_and_zero_of_nothing() -> None:
    volumes = np.random.default_rng(0).standard_normal((3, 6, 6, 6))
    moved = deviations_from_mean(volumes)
    inside = np.ones((6, 6, 6), dtype=bool)
    assert correlation(moved, 2.0 * moved, inside) == pytest.approx(1.0)
    assert correlation(moved, -moved, inside) == pytest.approx(-1.0)
    assert correlation(moved, 0.0 * moved, inside) == 0.0
    assert np.allclose(moved.mean(axis=0), 0.0)


def test_parts_come_largest_first_without_crumbs() -> None:
    inside = np.zeros((12, 12, 12), dtype=bool)
    inside[1:3, 1:3, 1:3], inside[5:10, 5:10, 5:10], inside[11, 11, 11] = True, True, True
    found = list(parts(inside))
    assert [int(part.sum()) for part in found] == [125, 8]


def test_flat_spectra_keep_the_correlation_of_every_shell() -> None:
    first, second = HalfRun(Path(), 1.0, 0.1, 0), HalfRun(Path(), 1.0, 0.1, 1)
    a, b = (next(run.latent_volumes(np.zeros((1, 2)))) for run in (first, second))
    x, y = flattened(a, b)
    np.testing.assert_allclose(fourier_shell_correlation(x, y), fourier_shell_correlation(a, b), atol=1e-6)
    power = [float((np.abs(np.fft.fftn(v)) ** 2).sum()) for v in (x, y)]
    low_passed = [float((np.abs(np.fft.fftn(v))[:3, :3, :3] ** 2).sum()) for v in (x, y)]
    # 27 of 13,824 coefficients hold their share of a flat spectrum; in the map itself nearly all is there.
    assert max(low / all_ for low, all_ in zip(low_passed, power, strict=True)) < 5 * 27 / BOX**3
