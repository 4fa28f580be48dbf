"""Truth folders: read, cropped to the run's box, and refused with a reason."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, STATES, blob, toy_states, write_truth
from cryoformer.assess.truth import crop_volume, load_truth
from cryoformer.errors import InputError


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
