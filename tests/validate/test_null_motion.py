"""The null of motion finds the motion of moving particles, and none in still ones."""

import numpy as np
import pytest

from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.linear.occupancy import occupancy_mask
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.validate.null_motion import MotionFound, MotionTest, compare_motion, motion_outcome
from toy_images import simulate

SETTINGS = PPCASettings(box=16, dimension=2, iterations=6)


def compared(moves: bool, noise: float = 0.7) -> MotionTest:
    images = simulate(400, noise=noise, seed=4, moves=moves).images.crop(16)
    consensus = reconstruct_consensus(images)
    images = images.with_noise(consensus.noise_power)
    mask = occupancy_mask(consensus.volume, images.pixel_size_angstrom)
    return compare_motion(images, consensus.volume, mask, SETTINGS, nulls=4, seed=0)


@pytest.fixture(scope="module")
def moving_test() -> MotionTest:
    return compared(moves=True)


def test_motion_stands_out_from_particles_that_do_not_move(moving_test: MotionTest) -> None:
    assert moving_test.dimensions >= 1
    assert moving_test.likelihood_real
    outcome = motion_outcome(moving_test)
    assert outcome.verdict == "holds"
    assert "cannot be noise" in outcome.sentence
    assert outcome.numbers["p_value"] < 0.01


def test_still_particles_are_not_flagged_although_noise_informs_their_latents() -> None:
    test = compared(moves=False)
    # The subspace by itself would keep this dimension.
    assert test.observed.information[0] > 0.02
    assert test.dimensions == 0
    assert motion_outcome(test).verdict == "fails"


def found(*information: float, contrast: float = 0.1) -> MotionFound:
    values = np.array(information)
    return MotionFound(values, values, np.full(len(values), contrast), float(values[0]))


def test_words_for_no_information_and_for_contrast() -> None:
    nulls = [found(x, 0.0) for x in (0.10, 0.12, 0.11)]
    none = MotionTest(found(0.001, 0.0), nulls, [0.99, 0.99], [False, False], 0.99, False)
    assert "no motion" in motion_outcome(none).sentence
    contrast = MotionTest(found(0.9, 0.1, contrast=-0.95), nulls, [1e-4, 0.5], [True, False], 1e-4, True)
    assert "contrast" in motion_outcome(contrast).sentence
    weak = MotionTest(found(0.11, 0.0), nulls, [0.5, 0.9], [False, False], 0.5, False)
    assert "by noise alone" in motion_outcome(weak).sentence
