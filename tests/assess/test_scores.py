"""Scoring streams of volumes without any run."""

import numpy as np
import pytest

from assess.toy_run import toy_states
from cryoformer.assess.masks import molecule_mask, moving_mask
from cryoformer.assess.scores import score_volumes
from cryoformer.errors import InputError
from cryoformer.imaging.fsc import fourier_shell_correlation, fsc_auc, perfect_auc


def masks() -> dict[str, np.ndarray]:
    moving = moving_mask(toy_states(), 4.0)
    assert moving is not None
    return {"molecule": molecule_mask(toy_states(), 4.0), "moving": moving}


def test_scores_are_the_fsc_of_the_masked_maps() -> None:
    states, some_masks = toy_states(), masks()
    scores = score_volumes(iter(states), iter(states[::-1]), some_masks)
    for name, mask in some_masks.items():
        for index, (a, b) in enumerate(zip(states, states[::-1], strict=True)):
            assert scores[name].auc[index] == pytest.approx(float(fsc_auc(a * mask, b * mask)))
            np.testing.assert_allclose(scores[name].fsc[index], fourier_shell_correlation(a * mask, b * mask))


def test_the_same_truth_again_and_again_is_not_mixed_up_with_another() -> None:
    states = toy_states()
    truths = [states[0], states[0], states[1], states[0]]
    scores = score_volumes([states[0]] * 4, truths, masks())["moving"]
    assert scores.auc[0] == scores.auc[1] == scores.auc[3] == pytest.approx(perfect_auc(24))
    assert scores.auc[2] < scores.auc[0] - 0.01


def test_what_cannot_be_scored_is_refused() -> None:
    states = toy_states()
    with pytest.raises(InputError, match="as many"):
        score_volumes(states[:2], states[:3], masks())
    with pytest.raises(InputError, match="no volumes"):
        score_volumes([], [], masks())
    with pytest.raises(InputError, match="volume 1 holds"):
        score_volumes([states[0], np.full_like(states[0], np.nan)], states[:2], masks())
    with pytest.raises(InputError, match="shape"):
        score_volumes([np.zeros((4, 4, 4))], states[:1], masks())
