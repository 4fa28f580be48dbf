"""Masks hold what they should, have the edge that they promise, and do not make the FSC themselves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assess.toy_run import BOX, blob, toy_states
from cryoformer.assess.masks import density_threshold, molecule_mask, moving_mask, soft_mask, state_spread
from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume
from cryoformer.imaging.fsc import fsc_auc


@given(pixel=st.floats(1.0, 4.0), grow=st.floats(0.0, 8.0), edge=st.floats(4.0, 12.0))
def test_a_flat_face_has_the_edge_in_angstrom(pixel: float, grow: float, edge: float) -> None:
    core = np.zeros((32, 32, 32), dtype=bool)
    core[:, :, :16] = True
    profile = soft_mask(core, pixel, grow, edge)[16, 16]
    # The face lies half a voxel beyond the last voxel of the grown core.
    face = 15.5 + np.floor(grow / pixel + 1e-9)
    distance = (np.arange(32) - face) * pixel
    reach = max(edge, 2.0 * pixel)
    away_from_walls = np.abs(np.arange(32) - 15.5) < 15.5 - reach / pixel
    inner, outer = (distance <= -reach) & away_from_walls, distance >= reach
    np.testing.assert_allclose(profile[inner], 1.0, atol=1e-6)
    assert (profile[outer & away_from_walls] == 0.0).all()
    if 1 < face < 30 - reach / pixel:
        middle = np.interp(face, np.arange(32), profile)
        assert middle == pytest.approx(0.5, abs=1e-5)
    assert (np.diff(profile[8:]) <= 1e-6).all()


def test_the_edge_is_at_least_two_voxels_wide() -> None:
    core = np.zeros((12, 12, 12), dtype=bool)
    core[:, :, :6] = True
    profile = soft_mask(core, 8.0, 0.0, 1.0)[6, 6]
    assert ((profile > 0.01) & (profile < 0.99)).sum() >= 2


def test_the_molecule_mask_covers_every_state_and_spares_the_corners() -> None:
    states = toy_states()
    mask = molecule_mask(iter(states), 4.0)
    for volume in states:
        assert mask[volume > 0.2 * volume.max()].min() > 0.99
    assert mask[0, 0, 0] == 0.0
    assert 0.0 <= mask.min() <= mask.max() <= 1.0
    assert mask.mean() < 0.6


@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-5.0, 5.0))
def test_the_threshold_follows_scale_and_offset(scale: float, offset: float) -> None:
    volume = toy_states()[0].astype(np.float64)
    expected = density_threshold(volume) * scale + offset
    assert density_threshold(volume * scale + offset) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_noise_is_not_taken_for_molecule() -> None:
    volume = toy_states()[0]
    noisy = volume + 0.1 * np.random.default_rng(0).standard_normal(volume.shape)
    outside = blob((0, 0, 0), 6.0) < 0.2
    # Four standard deviations: about 3 in 100,000 voxels by chance.
    assert (noisy > density_threshold(noisy))[outside].mean() < 1e-3
    assert (volume[noisy > density_threshold(noisy)] > 0).all()


def test_the_moving_mask_holds_the_moving_part_and_little_of_the_still_one() -> None:
    mask = moving_mask(toy_states(), 4.0)
    assert mask is not None
    centre = BOX // 2
    assert mask[centre + 4, centre, centre - 3 : centre + 4].min() > 0.9
    assert mask[centre - 5, centre, centre] < 0.05


def test_states_that_do_not_differ_have_no_moving_mask() -> None:
    volume = toy_states()[0]
    assert moving_mask([volume, volume.copy()], 4.0) is None
    assert moving_mask([volume], 4.0) is None


def test_streamed_spread_is_numpys() -> None:
    volumes = np.random.default_rng(0).standard_normal((7, 5, 5, 5)) + 100.0
    spread = state_spread(iter(volumes))
    np.testing.assert_allclose(spread.mean, volumes.mean(axis=0))
    np.testing.assert_allclose(spread.deviation, volumes.std(axis=0))
    assert spread.largest_value == np.abs(volumes).max()


def test_nothing_to_mask_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="no density"):
        molecule_mask([np.zeros((8, 8, 8), dtype=np.float32)], 2.0)
    with pytest.raises(InputError, match="no states"):
        moving_mask([], 2.0)


def test_a_mask_does_not_correlate_independent_noise() -> None:
    a, b = np.random.default_rng(2).standard_normal((2, BOX, BOX, BOX))
    mask = molecule_mask(toy_states(), 4.0)
    # Without any mask two noise volumes score the FSC_0 = 1 of the definition and chance: about 0.5 / D and a little.
    assert abs(fsc_auc(a * mask, b * mask)) < 0.1


def test_spike_scores_of_a_perfect_map_and_of_the_mean(shared_data: Path) -> None:
    folder = shared_data / "stacks" / "spike64"
    states = [read_mrc_volume(path)[0] for path in sorted((folder / "gt").glob("state_*.mrc"))]
    archive = np.load(folder / "truth.npz")
    shown = np.abs(archive["t"][::50, None] - archive["state_t"]).argmin(axis=1)
    mask = moving_mask(states, 3.5)
    assert mask is not None
    mean = np.mean(states, axis=0)
    area = np.array([fsc_auc(mean * mask, state * mask) for state in states])
    assert fsc_auc(states[0] * mask, states[0] * mask) == pytest.approx(31 / 64)
    # The noise-free mean of the states: 0.337 with the mask that the figures of this set are quoted for.
    assert area[shown].mean() == pytest.approx(0.337, abs=0.002)
    whole = molecule_mask(states, 3.5)
    assert np.mean([fsc_auc(mean * whole, state * whole) for state in states]) > 0.47
