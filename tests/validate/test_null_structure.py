"""The null of structure tells particles from pure noise."""

import numpy as np
import pytest

from cryoformer.validate.null_images import null_images
from cryoformer.validate.null_structure import THRESHOLD, compare_structure, crowded_shells, structure_outcome
from toy_images import simulate


def test_particles_hold_a_structure() -> None:
    test = compare_structure(simulate(200, noise=0.7).images, nulls=3, seed=0)
    assert test.stands_out
    assert test.observed.peak > 2 * max(null.peak for null in test.nulls)
    assert structure_outcome(test).verdict == "holds"


@pytest.mark.parametrize("seed", range(3))
def test_pure_noise_is_called_noise_and_its_halves_stay_below_the_threshold(seed: int) -> None:
    noise = null_images(simulate(200, noise=0.7).images, None, seed=99 + seed)
    test = compare_structure(noise, nulls=4, seed=seed)
    assert not test.stands_out
    assert test.observed.highest_crowded_fsc < THRESHOLD
    outcome = structure_outcome(test)
    assert outcome.verdict == "fails"
    assert "pure noise" in outcome.sentence


def test_crowded_shells_are_those_in_which_chance_stays_below_the_threshold() -> None:
    first = crowded_shells(32).start
    # The half maps' mask, a ball of 0.9 of the box, leaves 0.38 of the 2 pi s^2 coefficients of a shell independent.
    independent = 2 * np.pi * first**2 * 0.9**3 * np.pi / 6
    assert 400 <= independent < 1.2 * 400
    assert crowded_shells(8).start == 7
