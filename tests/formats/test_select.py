"""Particles written back: every column, table and digit, in the format they came in."""

import logging
import re

import numpy as np
import pandas as pd
import pytest

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.choose import choose_rows, read_indices
from cryoformer.formats.load import open_particle_file
from cryoformer.formats.select import write_selection

RELION_31 = """
# version 30001

data_general

_rlnTomoSubtomosAre2DStacks   1


# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnAmplitudeContrast #3
_rlnSphericalAberration #4
_rlnVoltage #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
           1 opticsGroup1     0.100000     2.700000   300.000000     1.500000            8            2
           2 "second group"     0.070000     2.700000   200.000000     1.520000            8            2


# version 30001

data_particles

loop_
_rlnCoordinateX #1
_rlnImageName #2
_rlnMicrographName #3
_rlnDefocusU #4
_rlnDefocusV #5
_rlnDefocusAngle #6
_rlnAngleRot #7
_rlnAngleTilt #8
_rlnAnglePsi #9
_rlnOriginXAngst #10
_rlnOriginYAngst #11
_rlnOpticsGroup #12
_rlnLogLikeliContribution #13
 3277.000000 000002@first.mrcs mic/a.mrc 13108.082418 12845.582418   -160.39000   -102.30296    82.318041   124.706463 \
    0.019324     -0.64686            1 2.586789e+05
  983.000000 000004@sub/second.mrcs "mic/b c.mrc" 12906.018499 12643.518499   -160.39000 1 2 3 4 5 2 2.6e+05
 2826.000000 000001@first.mrcs mic/a.mrc 12730.825404 12468.325404   -160.39000 6 7 8 9 10 1 0007

# version 30001

data_micrographs

loop_
_rlnMicrographName #1
_rlnMicrographPixelSize #2
mic/a.mrc 0.75
'mic/b c.mrc' 0.750
""".replace("\\\n", "")


@pytest.fixture
def source(dataset):
    dataset.write_stacks()
    dataset.path.write_text(RELION_31)
    return dataset.path


def test_everything_but_the_rows_stays_as_it_is(source):
    out = write_selection(source, np.array([0, 2]), source.with_name("chosen.star"))
    lines = RELION_31.splitlines(keepends=True)
    assert out.read_text() == "".join(line for line in lines if "000004@sub" not in line)


def test_the_same_rows_are_read_again(source):
    rows = np.array([2, 0])
    out = write_selection(source, rows, source.with_name("chosen.star"))
    before, after = load_particles(source).subset(rows), load_particles(out)
    np.testing.assert_array_equal(before.rotations, after.rotations)
    np.testing.assert_array_equal(before.shifts_angstrom, after.shifts_angstrom)
    np.testing.assert_array_equal(before.pixel_sizes_angstrom, after.pixel_sizes_angstrom)
    np.testing.assert_array_equal(before.images(np.arange(2)), after.images(np.arange(2)))


def test_paths_that_would_not_be_found_become_absolute(source, caplog):
    out = source.parent / "far" / "a b" / "c" / "d" / "e" / "chosen.star"
    with caplog.at_level(logging.INFO, logger="cryoformer"):
        write_selection(source, np.array([1, 2]), out)
    assert sum("absolute" in record.message for record in caplog.records) == 1
    assert f"000004@{source.parent}/sub/second.mrcs" in out.read_text()
    assert '"mic/b c.mrc"' in out.read_text()
    after = load_particles(out)
    np.testing.assert_array_equal(after.images(np.arange(2)), load_particles(source).images(np.array([1, 2])))
    again = write_selection(out, np.array([0]), source.with_name("again.star"))
    np.testing.assert_array_equal(load_particles(again).images(np.array([0])), after.images(np.array([0])))


def test_a_path_with_spaces_is_quoted(source):
    moved = source.parent / "a b"
    moved.mkdir()
    for name in ("first.mrcs", "sub/second.mrcs"):
        (source.parent / name).rename(moved / name.split("/")[-1])
    out = write_selection(source, np.array([1, 2]), source.parent / "1/2/3/4/5/chosen.star", datadir=moved)
    assert f'"000004@{moved}/second.mrcs"' in out.read_text()
    np.testing.assert_array_equal(
        load_particles(out).images(np.arange(2)), load_particles(source, moved).images(np.array([1, 2]))
    )


def test_a_stack_of_the_same_name_beside_the_selection_is_not_taken_for_the_source(source, dataset):
    dataset.folder, folder = dataset.folder / "new", dataset.folder
    dataset.stacks = {"first.mrcs": dataset.stacks["first.mrcs"] + 1}
    dataset.write_stacks()
    out = write_selection(source, np.array([0]), dataset.folder / "chosen.star")
    assert f"{folder}/first.mrcs" in out.read_text()


def test_images_that_are_elsewhere_keep_their_paths(source):
    (source.parent / "first.mrcs").unlink()
    out = write_selection(source, np.array([0, 2]), source.parent / "1/2/3/4/5/chosen.star")
    assert "000002@first.mrcs" in out.read_text()


def test_windows_line_ends_and_relion_30(source, dataset):
    table = re.search(r"loop_\n_rlnCoordinateX.*?\n\n", RELION_31, re.DOTALL).group()
    source.write_bytes(f"data_images\n\n{table}".replace("\n", "\r\n").encode())
    out = write_selection(source, np.array([1]), source.with_name("chosen.star"))
    found, row = out.read_text().split(), next(line for line in RELION_31.splitlines() if "000004@" in line)
    assert found[:2] == ["data_images", "loop_"]
    assert found[-14:] == row.split()
    file = open_particle_file(out)
    assert (len(file), file.half_set) == (1, None)


def test_a_table_of_one_row_without_loop(source):
    header, row = RELION_31.split("data_particles")[1].split("_rlnLogLikeliContribution #13\n")
    columns = [line.split()[0] for line in f"{header}_rlnLogLikeliContribution".splitlines() if line.startswith("_")]
    pairs = [f"{column}   {value}" for column, value in zip(columns, row.split()[:13], strict=True)]
    source.write_text("\n".join([RELION_31.split("data_particles")[0], "data_particles", "", *pairs, ""]))
    out = write_selection(source, np.array([0]), source.parent / "1/2/3/4/5/chosen.star")
    assert load_particles(out).ctf.defocus_u_angstrom.tolist() == [pytest.approx(13108.082418)]
    assert f"@{source.parent}/first.mrcs" in out.read_text()
    with pytest.raises(InputError, match="no row 1"):
        write_selection(source, np.array([1]), out)


@pytest.mark.parametrize(
    ("rows", "out", "message"),
    [
        ([], "chosen.star", "the selection is empty"),
        ([0, 3], "chosen.star", "there is no row 3; it has 3 particles"),
        ([-1], "chosen.star", "there is no row -1"),
        ([0], "chosen.cs", r"come from a \.star file .* ends in \.star"),
        ([0], "particles.star", "give another --out"),
    ],
)
def test_what_cannot_be_selected(source, rows, out, message):
    with pytest.raises(InputError, match=message):
        write_selection(source, np.array(rows, dtype=np.int64), source.parent / out)
    assert source.read_text() == RELION_31


def test_row_numbers_of_any_file(source):
    out = write_selection(source.with_name("stack.mrcs"), np.array([2, 0]), source.with_name("rows.npy"))
    assert np.load(out).tolist() == [2, 0]


def test_real_files_are_written_back_byte_by_byte(shared_data, tmp_path):
    for name in ("relion31.star", "relion5.star", "relion31.6opticsgroups.star"):
        path = shared_data / "metadata" / name
        count = len(open_particle_file(path))
        out = write_selection(path, np.arange(count), tmp_path / name)
        if name == "relion31.star":
            assert load_particles(out).images(np.arange(5)).shape == (5, 256, 256)
            assert f"@{shared_data}" in out.read_text()
        else:
            assert out.read_bytes() == path.read_bytes()


def cryosparc_file(path, count=4):
    from cryosparc.dataset import Dataset

    generator = np.random.default_rng(0)
    data = Dataset.allocate(
        count,
        [
            ("blob/path", "O"),
            ("blob/idx", "<u4"),
            ("alignments3D/pose", "<f4", (3,)),
            ("alignments3D/split", "<u4"),
        ],
    )
    data["uid"] = generator.permutation(count).astype(np.uint64) + 100
    data["blob/path"] = [f">J1/stack_{row}.mrcs" for row in range(count)]
    data["blob/idx"] = np.arange(count)
    data["alignments3D/pose"] = generator.normal(size=(count, 3))
    data.save(path)
    through = Dataset.allocate(count, [("location/micrograph_path", "O"), ("blob/idx", "<u4")])
    order = generator.permutation(count)
    through["uid"] = data["uid"][order]
    through["location/micrograph_path"] = [f"mic_{row}" for row in order]
    through.save(path.with_name("P1_J1_passthrough_particles.cs"))
    return data


def test_cryosparc_fields_passthrough_and_group(tmp_path):
    from cryosparc.dataset import Dataset

    data = cryosparc_file(tmp_path / "particles.cs")
    out = write_selection(tmp_path / "particles.cs", np.array([3, 1]), tmp_path / "out" / "chosen.cs")
    chosen = Dataset.load(out)
    for field in data.fields():
        np.testing.assert_array_equal(chosen[field], data[field][[3, 1]])
    assert list(chosen["location/micrograph_path"]) == ["mic_3", "mic_1"]
    group = out.with_suffix(".csg").read_text()
    assert "metafile: '>chosen.cs'" in group
    assert "num_items: 2" in group


def test_rows_by_file_half_and_chance(tmp_path):
    halves = np.array([1, 2, 2, 1, 2, 1])
    np.save(tmp_path / "a.npy", [5, 0, 1, 2])
    assert choose_rows(6, halves).tolist() == [0, 1, 2, 3, 4, 5]
    assert choose_rows(6, halves, half=2).tolist() == [1, 2, 4]
    assert choose_rows(6, halves, half=1, ind=tmp_path / "a.npy").tolist() == [0, 5]
    drawn = [choose_rows(1000, None, random=10, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert len(set(drawn[0])) == 10
    one, two = (choose_rows(7, None, half=half, seed=3) for half in (1, 2))
    assert sorted([*one, *two]) == list(range(7))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"3\n\n1 # second\n", [1, 3]), (b"3 1\n", "cannot be read"), (b"9\n", "no row 9"), (b"1\n1\n", "listed twice")],
)
def test_text_indices(tmp_path, content, expected):
    (tmp_path / "rows.txt").write_bytes(content)
    if isinstance(expected, list):
        assert read_indices(tmp_path / "rows.txt", 5).tolist() == expected
    else:
        with pytest.raises(InputError, match=expected):
            read_indices(tmp_path / "rows.txt", 5)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([2.0, 0.0]), [0, 2]),
        (np.array([True, False, False, True, False]), [0, 3]),
        (np.array([0.5]), "whole numbers"),
        (np.array([np.nan]), "whole numbers"),
        (np.array([[1]]), "whole numbers"),
        (np.array(["1"]), "whole numbers"),
        (np.array([-1]), "no row -1"),
    ],
)
def test_array_indices(tmp_path, array, expected):
    np.save(tmp_path / "rows.npy", array)
    pd.to_pickle(array, tmp_path / "rows.pkl")
    for path in (tmp_path / "rows.npy", tmp_path / "rows.pkl"):
        if isinstance(expected, list):
            assert read_indices(path, 5).tolist() == expected
        elif array.dtype.kind != "U" or path.suffix == ".npy":
            with pytest.raises(InputError, match=expected):
                read_indices(path, 5)


@pytest.mark.parametrize("column", ["rlnParticleFigureOfMerit", "rlnLogLikeliContribution"])
def test_columns_are_added_or_replaced(tmp_path, column):
    """A weight for every particle, in a column of its own or in place of one that is there; nothing else changes."""
    source, out = tmp_path / "a.star", tmp_path / "b.star"
    source.write_text(RELION_31)
    count = len(open_particle_file(source))
    rows = np.arange(count)[::-1]
    write_selection(source, rows, out, added={column: np.linspace(0.25, 1.0, count)})
    before, after = (open_particle_file(path).columns() for path in (source, out))
    assert np.allclose(after[column], np.linspace(0.25, 1.0, count), rtol=1e-5)
    same = [name for name in before.columns if name != column]
    assert after[same].equals(before[same].iloc[rows].reset_index(drop=True))


def test_weights_and_halves_of_cryosparc_particles(tmp_path):
    """``alignments3D/weight`` is added, ``split`` (which counts from 0) replaced."""
    from cryosparc.dataset import Dataset

    data = cryosparc_file(tmp_path / "particles.cs")
    file = open_particle_file(tmp_path / "particles.cs")
    added = file.weight_columns(np.array([0.5, 1.0]), np.array([2, 1]))
    out = Dataset.load(write_selection(file, np.array([3, 1]), tmp_path / "some.cs", added=added))
    assert out["alignments3D/weight"].tolist() == [0.5, 1.0]
    assert out["alignments3D/split"].tolist() == [1, 0]
    assert out["uid"].tolist() == data["uid"][[3, 1]].tolist()
