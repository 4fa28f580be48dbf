"""What is read of a STAR file is all that it holds, or nothing of it."""

import numpy as np
import pytest

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.select import write_selection


def error(path) -> str:
    with pytest.raises(InputError) as caught:
        load_particles(path)
    return str(caught.value)


def test_files_joined_end_to_end(dataset, capsys):
    text = dataset.write().read_text()
    dataset.path.write_text(text + "\n" + text)
    assert "2 tables list particles (data_particles: 5 rows, data_particles: 5 rows); join them" in error(dataset.path)
    for command in (["select", str(dataset.path), "--half", "1"], ["downsample", str(dataset.path), "--box", "4"]):
        assert main([*command, "--out", str(dataset.folder / "out.star")]) == 2
        assert "2 tables list particles" in capsys.readouterr().err


def test_two_blocks_of_relion_30(dataset):
    text = dataset.write(optics=False).read_text()
    dataset.path.write_text(text + "\n" + text.replace("data_\n", "data_again\n"))
    assert "2 tables list particles (data_: 5 rows, data_again: 5 rows)" in error(dataset.path)


def test_two_optics_tables(dataset):
    text = dataset.write().read_text()
    start, stop = text.index("data_optics"), text.index("data_particles")
    dataset.path.write_text(text + "\n" + text[start:stop])
    assert "2 tables are data_optics (data_optics: 2 rows, data_optics: 2 rows)" in error(dataset.path)


def test_an_empty_table_beside_the_particles_takes_nothing_away(dataset):
    text = dataset.write().read_text()
    dataset.path.write_text(text + "\ndata_images\n\nloop_\n_rlnImageName #1\n")
    assert len(load_particles(dataset.path)) == 5


def lines_of(dataset) -> list[str]:
    return dataset.write().read_text().splitlines()


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    ("change", "values"),
    [(lambda row: row[:2] + row[3:], 12), (lambda row: row[:4], 4), (lambda row: [*row, "7"], 14)],
    ids=["one missing", "cut off", "one more"],
)
def test_a_row_with_another_number_of_values(dataset, place, change, values):
    lines = lines_of(dataset)
    rows = [number for number, line in enumerate(lines) if "@" in line]
    lines[rows[place]] = " ".join(change(lines[rows[place]].split()))
    dataset.path.write_text("\n".join(lines) + "\n")
    expected = f"row {place + 1} of data_particles has {values} values, the table has 13 columns"
    assert expected in error(dataset.path)
    with pytest.raises(InputError, match=expected):
        write_selection(dataset.path, np.array([0]), dataset.folder / "out.star")


def test_a_short_row_before_a_column_of_text(dataset):
    """The missing value is made up by an empty text, which is no missing number."""
    dataset.particles["rlnMicrographName"] = [f"mic{row}.mrc" for row in range(5)]
    lines = lines_of(dataset)
    row = next(number for number, line in enumerate(lines) if "4@sub" in line)
    lines[row] = " ".join(lines[row].split()[:-1])
    dataset.path.write_text("\n".join(lines) + "\n")
    assert "row 2 of data_particles has 13 values, the table has 14 columns" in error(dataset.path)


def test_a_short_row_of_the_optics_table(dataset):
    lines = lines_of(dataset)
    row = next(number for number, line in enumerate(lines) if "early" in line)
    lines[row] = " ".join(lines[row].split()[:-1])
    dataset.path.write_text("\n".join(lines) + "\n")
    assert "row 2 of data_optics has 7 values, the table has 8 columns" in error(dataset.path)


def test_a_quote_that_stays_open_swallows_no_rows(dataset):
    dataset.particles["rlnMicrographName"] = "mic.mrc"
    lines = lines_of(dataset)
    rows = [number for number, line in enumerate(lines) if "@" in line]
    for row in rows[1:3]:
        lines[row] = lines[row].replace("mic.mrc", '"mic.mrc' if row == rows[1] else 'mic.mrc"')
    dataset.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"data_particles has 5 rows, of which|row \d of data_particles has"):
        load_particles(dataset.path)


@pytest.mark.parametrize(
    "columns",
    [
        {"rlnTomoParticleName": ["TS_1/1"] * 5},
        {"rlnGroupName": ["a", "a", "a", "b", "b"], "rlnCtfScalefactor": [1.0, 0.99, 0.9, 1.0, 0.5]},
        {"rlnCtfBfactor": [-4.0, -8.0, -12.0, -4.0, -8.0]},
    ],
    ids=["names of RELION", "cosines of tilts", "doses as B-factors"],
)
def test_tilt_series_by_whatever_shows_them(dataset, columns):
    for name, values in columns.items():
        dataset.particles[name] = values
    message = error(dataset.write())
    assert "tilt series" in message


def test_groups_of_single_particles_are_no_tilt_series(dataset):
    dataset.particles["rlnGroupName"] = ["a", "a", "a", "b", "b"]
    dataset.particles["rlnCtfScalefactor"] = [1.0, 1.0, 1.0, 0.9, 0.9]
    assert len(load_particles(dataset.write())) == 5
