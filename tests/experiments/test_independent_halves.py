"""What two maps share, with and without a mask, and what it promises about the truth."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import ToyRun, blob
from cryoformer.assess.masks import soft_mask
from cryoformer.assess.results import Result
from cryoformer.decode.volume_source import VolumeSource
from cryoformer_experiments.independent_halves import half_map_curves, mean_volume

BOX = 32


@pytest.fixture(scope="module")
def scene():
    """A molecule of noise with a soft outline, its mask, and two maps with independent noise that grows with radius."""
    rng = np.random.default_rng(0)
    mask = soft_mask(blob((0, 0, 0), 5.0, BOX) > 0.3, 2.0, 0.0, 10.0)
    truth = (rng.standard_normal((BOX,) * 3) * mask).astype(np.float32)
    maps = tuple(truth + 0.7 * rng.standard_normal((BOX,) * 3).astype(np.float32) for _ in range(2))
    return truth, mask, maps


def test_halves_with_independent_noise_promise_what_the_truth_confirms(scene) -> None:
    truth, mask, maps = scene
    curves = half_map_curves(maps, truth, mask, seed=0)
    shells = slice(3, BOX // 2)
    assert np.abs(curves["expected"][shells] - curves["truth"][shells]).mean() < 0.06
    # Noise outside of the molecule is what a mask is for.
    assert curves["half_maps"][shells].mean() > curves["half_maps_unmasked"][shells].mean() + 0.1


def test_an_error_that_both_halves_share_is_promised_but_not_confirmed(scene) -> None:
    truth, mask, maps = scene
    shared = 1.5 * np.random.default_rng(1).standard_normal((BOX,) * 3).astype(np.float32)
    curves = half_map_curves((maps[0] + shared, maps[1] + shared), truth, mask, seed=0)
    shells = slice(3, BOX // 2)
    assert curves["expected"][shells].mean() > curves["truth"][shells].mean() + 0.2


def test_noise_alone_promises_nothing_although_it_is_masked(scene) -> None:
    truth, mask, _ = scene
    rng = np.random.default_rng(2)
    noise = tuple(rng.standard_normal((BOX,) * 3).astype(np.float32) for _ in range(2))
    curves = half_map_curves((noise[0], noise[1]), truth, mask, seed=0)
    assert np.abs(curves["half_maps"][4:]).mean() < 0.15


def test_the_map_of_a_method_is_at_the_mean_of_its_latents_or_the_only_one(tmp_path: Path) -> None:
    run = ToyRun(tmp_path)
    run.latents = run.latents - run.latents.mean(axis=0)
    result = Result(tmp_path, "run", run.sources, run.box, 4.0)
    assert np.array_equal(mean_volume(result), run._state(np.zeros(2)))
    one = VolumeSource.homogeneous("one", np.ones((4, 4, 4), dtype=np.float32), 10)
    assert mean_volume(Result(tmp_path, "baseline", [one], 4, 4.0)).sum() == 64
