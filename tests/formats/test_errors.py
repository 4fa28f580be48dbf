"""Every way in which a particle file can be wrong: one InputError that names file, row, expectation and remedy."""

import numpy as np
import pytest
import starfile

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.particles import check_images


def error(path, **options) -> str:
    """The message, which must name the file."""
    with pytest.raises(InputError) as caught:
        load_particles(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_star(tmp_path):
    assert "no.star: no such file" in error(tmp_path / "no.star")


@pytest.mark.parametrize("suffix", [".cs", ".pkl", ".txt", ".mrcs", ".docx", ""])
def test_other_formats_name_the_supported_ones(tmp_path, suffix):
    path = tmp_path / f"particles{suffix}"
    path.touch()
    message = error(path)
    assert path.name in message
    assert any(word in message for word in ("give", "export", "expected"))
    if suffix not in (".cs", ".pkl", ".txt", ".mrcs"):
        assert "supported: .star" in message


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00\xff\xfe binary" * 50, b"data_\n", b"data_particles\n\n"])
def test_not_a_star_file(tmp_path, content):
    path = tmp_path / "particles.star"
    path.write_bytes(content)
    assert "particles.star" in error(path)


def test_unparsable_star_says_why(dataset):
    text = dataset.write().read_text().splitlines()
    place = next(number for number, line in enumerate(text) if line.startswith("1@sub"))
    dataset.path.write_text("\n".join([*text[:place], text[place] + " 1 2 3", *text[place + 1 :]]))
    assert "cannot be parsed as a STAR file" in error(dataset.path)


def test_row_cut_short(dataset):
    text = dataset.write().read_text().rstrip().splitlines()
    dataset.path.write_text("\n".join([*text[:-1], "\t".join(text[-1].split()[:5])]))
    assert "row 5 of data_particles has 5 values, the table has 13 columns" in error(dataset.path)


def test_star_without_particles(dataset):
    dataset.write()
    starfile.write({"optics": dataset.optics}, dataset.path)
    message = error(dataset.path)
    assert "rlnImageName" in message
    assert "data_optics (8 columns)" in message


def test_no_rows(dataset):
    dataset.particles = dataset.particles.iloc[:0]
    assert "no rows" in error(dataset.write())


@pytest.mark.parametrize("column", ["rlnDefocusU", "rlnDefocusAngle", "rlnVoltage", "rlnAmplitudeContrast"])
def test_missing_ctf_column_is_named(dataset, column):
    dataset.particles = dataset.particles.drop(columns=column, errors="ignore")
    dataset.optics = dataset.optics.drop(columns=column, errors="ignore")
    message = error(dataset.write())
    assert f"no CTF: {column} missing" in message
    assert "run a CTF estimation" in message


def test_part_of_a_ctf_is_never_dropped_silently(dataset):
    dataset.optics = dataset.optics.drop(columns="rlnAmplitudeContrast")
    assert "rlnAmplitudeContrast" in error(dataset.write(), require_ctf=False)


def test_missing_poses_say_what_to_run(dataset):
    dataset.particles = dataset.particles.drop(columns=["rlnAngleRot", "rlnAnglePsi"])
    message = error(dataset.write())
    assert "rlnAngleRot, rlnAnglePsi missing" in message
    assert "run a 3D refinement" in message


@pytest.mark.parametrize(
    "column", ["rlnAngleTilt", "rlnOriginXAngst", "rlnDefocusV", "rlnPhaseShift", "rlnCtfBfactor", "rlnRandomSubset"]
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "nought"])
def test_a_value_that_is_no_finite_number(dataset, column, value):
    dataset.particles[column] = dataset.particles[column].astype(object)
    dataset.particles.loc[[2, 3], column] = value
    message = error(dataset.write())
    assert f"particles.star: row 3: {column} is '{value}', expected a finite number (2 such rows)" in message


def test_a_bad_optics_value_names_the_optics_table(dataset):
    dataset.optics.loc[1, "rlnSphericalAberration"] = np.inf
    assert "data_optics, row 2: rlnSphericalAberration is 'inf'" in error(dataset.write())


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("rlnImagePixelSize", 0.0, "a pixel size above 0"),
        ("rlnImagePixelSize", -1.5, "a pixel size above 0"),
        ("rlnVoltage", 0.0, "a voltage above 0"),
        ("rlnAmplitudeContrast", 7.0, "a fraction from 0 to 1"),
    ],
)
def test_impossible_optics(dataset, column, value, expected):
    dataset.optics.loc[0, column] = value
    message = error(dataset.write())
    assert f"row 2: {column} is {value:g}, expected {expected}" in message


def test_missing_pixel_size(dataset):
    dataset.optics = dataset.optics.drop(columns="rlnImagePixelSize")
    assert "no pixel size: expected rlnImagePixelSize in data_optics" in error(dataset.write())


def test_zero_magnification(dataset):
    dataset.optics = dataset.optics.drop(columns="rlnImagePixelSize")
    dataset.particles = dataset.particles.assign(rlnMagnification=0.0, rlnDetectorPixelSize=5.0)
    assert "row 1: rlnMagnification is 0" in error(dataset.write())


def test_unknown_optics_group(dataset):
    dataset.particles.loc[3, "rlnOpticsGroup"] = 5
    message = error(dataset.write())
    assert "row 4 is of optics group 5" in message
    assert "it lists 7, 3" in message


def test_optics_groups_that_cannot_be_told_apart(dataset):
    dataset.particles = dataset.particles.drop(columns="rlnOpticsGroup")
    assert "rlnOpticsGroup is missing" in error(dataset.write())


def test_optics_group_listed_twice(dataset):
    dataset.optics["rlnOpticsGroup"] = 7
    assert "lists an optics group twice" in error(dataset.write())


def test_empty_optics_table(dataset):
    dataset.optics = dataset.optics.iloc[:0]
    assert "data_optics has no rows" in error(dataset.write())


def test_missing_stack_lists_what_was_tried(dataset):
    dataset.write()
    (dataset.folder / "sub" / "second.mrcs").unlink()
    message = error(dataset.path)
    assert "'sub/second.mrcs' was not found (tried " in message
    for place in (dataset.folder / "sub" / "second.mrcs", dataset.folder / "second.mrcs"):
        assert str(place) in message
    assert "--datadir" in message


def test_row_past_the_end_of_its_stack(dataset):
    dataset.particles.loc[2, "rlnImageName"] = "4@first.mrcs"
    message = error(dataset.write())
    assert "row 3 asks for image 4 of" in message
    assert "first.mrcs, which holds 3" in message


@pytest.mark.parametrize("name", ["0@first.mrcs", "-1@first.mrcs", "1.5@first.mrcs", "one@first.mrcs", "@first.mrcs"])
def test_bad_image_index(dataset, name):
    dataset.particles.loc[1, "rlnImageName"] = name
    message = error(dataset.write())
    assert f"row 2: the image name '{name}' does not start with a whole number from 1" in message


def test_truncated_stack(dataset):
    path = dataset.write().parent / "first.mrcs"
    path.write_bytes(path.read_bytes()[:-100])
    message = error(dataset.path)
    assert "first.mrcs: cut short: the header promises 3 images" in message
    assert "(2 whole images)" in message


def test_stack_that_is_no_mrc_file(dataset):
    (dataset.write().parent / "first.mrcs").write_bytes(b"nothing")
    assert "first.mrcs: cannot be read as an MRC stack" in error(dataset.path)


def test_images_that_are_not_square(dataset):
    dataset.stacks["first.mrcs"] = np.zeros((3, 8, 6), np.float32)
    assert "first.mrcs: images of 6 x 8 pixels; expected square" in error(dataset.write())


def test_complex_stack(dataset):
    dataset.stacks["first.mrcs"] = np.zeros((3, 8, 8), np.complex64)
    assert "MRC mode 4 cannot be read as images" in error(dataset.write())


def test_box_that_differs_from_the_optics_table(dataset):
    dataset.optics["rlnImageSize"] = 16
    assert "rlnImageSize says 16 pixels, the images of" in error(dataset.write())


def test_subtomograms_are_refused(dataset):
    dataset.optics["rlnImageDimensionality"] = 3
    assert "subtomograms" in error(dataset.write())


@pytest.mark.parametrize("values", [(np.nan, 0), (np.inf, 0), (np.inf, -np.inf)])
def test_image_that_holds_nan(dataset, values):
    dataset.stacks["sub/second.mrcs"][0, 3, 3:5] = values
    particles = load_particles(dataset.write())
    particles.images(np.array([0, 1, 2, 4]))
    with pytest.raises(InputError, match=r"row 4: image 1@.*second.mrcs holds NaN or infinite"):
        particles.images(np.array([4, 3]))
    with pytest.raises(InputError, match=r"1 of 5 images hold NaN or infinite values, the first in row 4"):
        check_images(particles, chunk_bytes=1)


@pytest.mark.parametrize("inside", [0.25, 0.5])
def test_blank_and_masked_images(dataset, inside):
    dataset.stacks["first.mrcs"][:] = 0.25
    dataset.stacks["first.mrcs"][:, 3:5, 3:5] = inside
    particles = load_particles(dataset.write())
    with pytest.raises(InputError, match=r"2 of 5 images have a constant background.*first in row 1 \(image 2@"):
        check_images(particles)


def test_good_images_pass(dataset):
    check_images(load_particles(dataset.write()))


def test_images_of_metadata_alone(dataset):
    particles = load_particles(dataset.write(), require_images=False)
    with pytest.raises(InputError, match="loaded without its images"):
        particles.images(np.array([0]))
