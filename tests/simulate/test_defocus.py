"""Defoci from a distribution and from files."""

from pathlib import Path

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.simulate.defocus import draw_defocus, draw_defocus_from, read_defocus

HEADER = "defocus_u_angstrom,defocus_v_angstrom,defocus_angle_degree\n"


def test_drawn_defoci_have_the_stated_distribution() -> None:
    u, v, angle = draw_defocus(np.random.default_rng(0), 20000, 20000.0, 3000.0).T
    # Standard errors at this size: 21 A for the mean, 15 A for the spread.
    assert ((u + v) / 2).mean() == pytest.approx(20000, abs=100)
    assert ((u + v) / 2).std() == pytest.approx(3000, abs=80)
    assert (u >= v).all()
    assert (u - v).max() < 1200
    assert angle.min() >= 0
    assert angle.max() < 180


def test_no_image_is_ever_in_focus() -> None:
    u, v, _ = draw_defocus(np.random.default_rng(0), 5000, 6000.0, 20000.0).T
    assert (v > 4000).all()
    assert (u < 51000).all()


def test_rows_of_a_table_are_used_up_before_any_comes_twice() -> None:
    table = np.arange(21.0).reshape(7, 3)
    drawn = draw_defocus_from(table, np.random.default_rng(1), 17)
    assert drawn.shape == (17, 3)
    counts = np.bincount((drawn[:, 0] / 3).astype(int), minlength=7)
    assert set(counts) == {2, 3}
    assert not np.array_equal(drawn[:7], table)


def test_csv_and_star_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(HEADER + "20000.5,19000,30\n15000,14000,-12.5\n")
    (tmp_path / "d.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n1\n\ndata_particles\n\nloop_\n_rlnDefocusAngle #1\n_rlnDefocusV #2\n"
        "_rlnDefocusU #3\n30 19000 20000.5\n-12.5 14000 15000\n"
    )
    expected = [[20000.5, 19000.0, 30.0], [15000.0, 14000.0, -12.5]]
    np.testing.assert_array_equal(read_defocus(tmp_path / "d.csv"), expected)
    np.testing.assert_array_equal(read_defocus(tmp_path / "d.star"), expected)


def test_real_defoci_are_read(shared_data: Path) -> None:
    table = read_defocus(shared_data / "metadata" / "empiar_10028_defocus.csv.gz")
    assert table.shape == (21050, 3)
    np.testing.assert_array_equal(table[0], [23344.70, 23445.95, 36.70])


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("d.csv", "a,b\n1,2\n", "has no column defocus_u_angstrom"),
        ("d.csv", HEADER, "holds no rows"),
        ("d.csv", HEADER + "1,2,3\n1,nan,3\n", "row 2 is no defocus"),
        ("d.csv", HEADER + "1,2,x\n", "row 1 is no defocus"),
        ("d.csv", "", "cannot be read"),
        ("d.csv.gz", "not gzip", "cannot be read"),
        ("d.star", "data_x\n\nloop_\n_rlnVoltage #1\n300\n", "has no column rlnDefocusU"),
        ("d.star", "nothing", "has no column rlnDefocusU"),
    ],
)
def test_files_without_defoci_are_named(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: {complaint}"):
        read_defocus(tmp_path / name)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_defocus(tmp_path / "d.csv")
