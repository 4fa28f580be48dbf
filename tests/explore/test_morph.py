"""The motion's picture and animation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assess.toy_run import blob, toy_states
from cryoformer.errors import InputError
from cryoformer.explore.morph import DISPLAY_BOX, displayed, morph_figure, motion_frames, prepare_morph
from cryoformer.explore.render import without_dust

LABELS = [f"t = {t:.1f}" for t in (0.1, 0.3, 0.5, 0.7, 0.9)]


def test_scale_does_not_matter_and_the_contours_enclose_the_same() -> None:
    states = toy_states()
    true, reconstructed = prepare_morph((7.0 * v for v in states), LABELS, states).rows
    assert (true.name, reconstructed.name) == ("true", "reconstructed")
    np.testing.assert_allclose(reconstructed.mean, true.mean, rtol=1e-5)
    np.testing.assert_allclose(reconstructed.mobility, true.mobility, atol=0.03)
    assert (reconstructed.mean > reconstructed.level).sum() == (true.mean > true.level).sum()


def test_what_does_not_move_stays_grey_beside_a_moving_truth() -> None:
    states = toy_states()
    true, reconstructed = prepare_morph([np.mean(states, axis=0)] * 5, LABELS, states).rows
    assert true.mobility.max() == 1.0
    assert reconstructed.mobility.max() < 1e-6


def test_large_volumes_are_shown_at_fewer_voxels() -> None:
    volume = blob((0, 0, 0), 20.0, DISPLAY_BOX + 2)
    assert prepare_morph([volume, volume], ["a", "b"]).rows[0].states[0].shape == (DISPLAY_BOX,) * 3


def test_dust_is_hidden_and_a_loose_domain_is_not() -> None:
    volume = blob((0, 0, -3), 3.0) + blob((0, 0, 7), 1.5) + 0.9 * blob((9, 9, 9), 0.5)
    clean = without_dust(volume, 0.5)
    assert clean[21, 21, 21] < 0.5 < volume[21, 21, 21]
    assert clean[19, 12, 12] == volume[19, 12, 12]
    assert clean[9, 12, 12] == volume[9, 12, 12]


def test_specks_do_not_shrink_the_molecule_in_its_picture() -> None:
    states = toy_states()
    speck = 0.9 * blob((10, 10, 10), 0.4)
    clean, specked = (prepare_morph(volumes, LABELS).camera for volumes in (states, [v + speck for v in states]))
    assert specked.half_width == pytest.approx(clean.half_width, abs=1.0)


def test_the_figure_shows_the_moving_part_in_colour(tmp_path: Path) -> None:
    path = morph_figure(prepare_morph(toy_states(), LABELS, toy_states()), tmp_path / "morph.png", size=120)
    picture = np.asarray(Image.open(path).convert("RGB")).astype(float)
    redness = picture[..., 0] - picture[..., 2]
    upper = redness[: picture.shape[0] // 2]
    assert (upper > 80).mean() > 0.003
    assert (picture.std(axis=2) < 5).mean() > 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["morph.png"]


def test_frames_show_the_truth_beside_the_reconstruction() -> None:
    frames = motion_frames(prepare_morph(toy_states(), LABELS, toy_states()), size=60)
    assert [frame.shape for frame in frames] == [(60, 120, 3)] * 5
    assert (frames[0] != frames[4]).mean() > 0.02


def test_cropping_keeps_the_density() -> None:
    volume = blob((1, 2, -3), 6.0, 48)
    np.testing.assert_allclose(displayed(volume, 32).max(), volume.max(), rtol=0.02)
    assert displayed(volume) is volume


def test_volumes_that_failed_are_refused() -> None:
    with pytest.raises(InputError, match="not numbers"):
        prepare_morph([np.full((8, 8, 8), np.nan)], ["a"])
