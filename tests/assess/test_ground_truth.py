"""GroundTruth folders: read, cropped to the run's box, and refused with a reason."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_mixture import write_mixture
from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, STATES, blob, toy_states, write_truth
from cryoformer.assess.ground_truth import load_truth
from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume
from cryoformer.imaging.grids import crop_volume


def test_states_come_in_order_and_images_know_theirs(tmp_path: Path) -> None:
    truth = load_truth(write_truth(tmp_path), BOX, PIXEL_SIZE, PARTICLES)
    assert len(truth) == STATES
    np.testing.assert_array_equal(truth.state_of_image, np.arange(PARTICLES) % STATES)
    for read, written in zip(truth.states(), toy_states(), strict=True):
        np.testing.assert_array_equal(read, written)


def test_without_a_state_entry_the_nearest_coordinate_decides(tmp_path: Path) -> None:
    truth = load_truth(write_truth(tmp_path, with_states=False), BOX, PIXEL_SIZE, PARTICLES)
    np.testing.assert_array_equal(truth.state_of_image, np.arange(PARTICLES) % STATES)


def test_files_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    write_truth(tmp_path)
    (tmp_path / "gt" / "state_04.mrc").rename(tmp_path / "gt" / "state_100.mrc")
    (tmp_path / "gt" / "state_03.mrc").rename(tmp_path / "gt" / "state_20.mrc")
    files = load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES).state_files
    assert [path.stem for path in files][-2:] == ["state_20", "state_100"]


def test_a_finer_truth_is_cropped_to_the_runs_box(tmp_path: Path) -> None:
    truth = load_truth(write_truth(tmp_path, box=2 * BOX), BOX, PIXEL_SIZE, PARTICLES)
    assert truth.state(0).shape == (BOX, BOX, BOX)


def test_cropping_keeps_place_and_sum_of_what_the_band_holds() -> None:
    fine, coarse = blob((3.0, -2.0, 1.0), 4.0, 48), blob((1.5, -1.0, 0.5), 2.0, 24)
    cropped = crop_volume(fine, 24)
    assert cropped.sum() == pytest.approx(fine.sum(), rel=1e-5)
    # Twice the voxel holds eight times the sum of a density; the band limit leaves about exp(-2 pi^2) of it.
    np.testing.assert_allclose(cropped / 8.0, coarse, atol=2e-3)
    with pytest.raises(InputError, match="smaller"):
        crop_volume(coarse, 48)


@pytest.mark.parametrize(
    ("box", "pixel", "particles", "reason"),
    [
        (BOX, PIXEL_SIZE, PARTICLES + 1, "particles"),
        (2 * BOX, PIXEL_SIZE / 2, PARTICLES, "smaller than the run's"),
        (BOX, 1.1 * PIXEL_SIZE, PARTICLES, "span"),
    ],
)
def test_the_truth_of_another_stack_is_refused(
    tmp_path: Path, box: int, pixel: float, particles: int, reason: str
) -> None:
    write_truth(tmp_path)
    with pytest.raises(InputError, match=reason):
        load_truth(tmp_path, box, pixel, particles).state(0)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"truth\.npz"):
        load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)
    write_truth(tmp_path)
    (tmp_path / "gt" / "state_02.mrc").unlink()
    with pytest.raises(InputError, match="found 4 state"):
        load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)
    np.savez(tmp_path / "truth.npz", t=np.zeros(3))
    with pytest.raises(InputError, match="state_t"):
        load_truth(tmp_path, BOX, PIXEL_SIZE, 3)
    (tmp_path / "truth.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="numpy archive"):
        load_truth(tmp_path, BOX, PIXEL_SIZE, 3)


def test_a_state_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_truth(tmp_path)
    np.savez(tmp_path / "truth.npz", t=np.zeros(2), state_t=np.arange(5.0), state=np.array([0, 5]))
    with pytest.raises(InputError, match="0 to 4"):
        load_truth(tmp_path, BOX, PIXEL_SIZE, 2)


def test_a_coordinate_that_is_no_number_is_named(tmp_path: Path) -> None:
    write_truth(tmp_path)
    np.savez(tmp_path / "truth.npz", t=np.array([0.0, np.nan]), state_t=np.arange(5.0))
    with pytest.raises(InputError, match="row 1 of t"):
        load_truth(tmp_path, BOX, PIXEL_SIZE, 2)


def test_images_show_the_nearest_state_of_their_composition(tmp_path: Path) -> None:
    entries = write_mixture(tmp_path)
    truth = load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)
    np.testing.assert_array_equal(truth.coordinates, entries["coordinates"])
    state = entries.pop("state")
    # Off the grid, but nearer to the same state than to any other.
    entries["coordinates"] = entries["coordinates"] + np.random.default_rng(0).uniform(-0.4, 0.4, (PARTICLES, 2))
    np.savez(tmp_path / "truth.npz", **entries)
    found = load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)
    np.testing.assert_array_equal(found.state_of_image, state)
    assert found.composition is not None
    assert not found.is_one_motion
    np.testing.assert_allclose(found.occupancies.sum(), 1.0)


def test_a_series_changes_one_thing_at_a_time(tmp_path: Path) -> None:
    entries = write_mixture(tmp_path / "both")
    truth = load_truth(tmp_path / "both", BOX, PIXEL_SIZE, PARTICLES)
    series = truth.series()
    np.testing.assert_array_equal(truth.state_coordinates[series], [[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    assert set(entries["state_composition"][series]) == {np.bincount(entries["composition"]).argmax()}
    assert truth.label(int(series[0])).endswith("t = -1.00, 0.00")
    write_mixture(tmp_path / "parts", motions=False)
    parts = load_truth(tmp_path / "parts", BOX, PIXEL_SIZE, PARTICLES)
    assert parts.series().tolist() == [0, 1]
    assert [parts.label(state) for state in (0, 1)] == ["composition 1", "composition 2"]
    one = load_truth(write_truth(tmp_path / "one"), BOX, PIXEL_SIZE, PARTICLES)
    assert one.series().tolist() == list(range(STATES))
    assert one.is_one_motion


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"coordinates": np.zeros((3, 2))}, "expected finite `coordinates` of shape"),
        ({"state_coordinates": np.zeros((18, 3))}, "2 coordinates of the particles, 3 of the states"),
        ({"composition": None}, "found one of them"),
        ({"composition_moves": np.ones((2, 3), dtype=bool)}, "expected `composition_moves` of shape"),
        ({"composition_moves": np.ones((1, 2), dtype=bool)}, "expected `composition_moves` of shape"),
        ({"composition": np.full(PARTICLES, 7)}, "a composition that no state has"),
        ({"composition": np.full(PARTICLES, -1)}, "expected `composition` to hold"),
    ],
)
def test_coordinates_and_compositions_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | None], complaint: str
) -> None:
    entries = write_mixture(tmp_path) | changes
    np.savez(tmp_path / "truth.npz", **{name: values for name, values in entries.items() if values is not None})
    with pytest.raises(InputError, match=complaint):
        load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)


def test_a_mask_that_comes_with_the_truth_keeps_its_values_when_cropped(tmp_path: Path) -> None:
    write_truth(tmp_path, box=2 * BOX)
    truth = load_truth(tmp_path, BOX, PIXEL_SIZE, PARTICLES)
    assert truth.given_mask() is None
    write_mrc_volume(tmp_path / "mask.mrc", blob((0, 0, 0), 12.0, 2 * BOX), PIXEL_SIZE / 2)
    mask = truth.given_mask()
    assert mask is not None
    np.testing.assert_allclose(mask, blob((0, 0, 0), 6.0), atol=0.02)
