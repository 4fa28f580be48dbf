"""Three samples of each state, and the mean FSC over them."""

import time
from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, STATES, ToyRun, write_truth
from cryoformer.assess.evaluate import truth_masks
from cryoformer.assess.ground_truth import load_truth
from cryoformer.decode.volume_source import VolumeSource
from cryoformer.imaging.fsc import perfect_auc
from cryoformer_experiments.samples import sample_particles, sampled_fsc


def test_three_of_each_state_evenly_strided() -> None:
    states = np.array([0] * 9 + [2] * 2 + [1] * 6)
    assert sample_particles(states).tolist() == [0, 3, 6, 11, 13, 15, 9, 10]


@pytest.fixture
def truth(tmp_path: Path):
    return load_truth(write_truth(tmp_path / "truth"), BOX, PIXEL_SIZE, PARTICLES)


def test_a_perfect_method_scores_one_and_one_that_ignores_the_motion_does_not(truth, tmp_path: Path) -> None:
    masks = truth_masks(truth)
    good = sampled_fsc(ToyRun(tmp_path), truth, masks)
    blind = sampled_fsc(ToyRun(tmp_path, blend=0.0), truth, masks)
    assert good["samples"] == 3 * STATES
    assert np.allclose(good["moving"]["fsc"], 1.0)
    assert good["moving"]["auc"] == pytest.approx(perfect_auc(BOX))
    assert good["moving"]["resolution_angstrom"] == pytest.approx(2 * PIXEL_SIZE)
    assert blind["moving"]["resolution_angstrom"] > 1.5 * good["moving"]["resolution_angstrom"]
    assert min(blind["moving"]["fsc"]) < 0.5 < min(blind["molecule"]["fsc"][:3])


def test_seconds_are_those_of_the_decoder_alone(truth, tmp_path: Path) -> None:
    source = ToyRun(tmp_path)
    slow = VolumeSource("slow", source.latents, lambda points: _slowly(source.latent_volumes(points)))
    found = sampled_fsc(slow, truth, truth_masks(truth))["seconds_per_volume"]
    assert 0.02 <= found < 0.2


def _slowly(volumes):
    for volume in volumes:
        time.sleep(0.02)
        yield volume
