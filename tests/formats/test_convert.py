"""Conversions: every path there and back keeps the particles, and all formats give the same projections."""

import itertools
import logging

import mrcfile
import numpy as np
import pytest
import torch
import yaml

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.convert import convert
from cryoformer.formats.cryosparc.dataset import read_dataset
from cryoformer.formats.relion.star import read_star_tables
from cryoformer.imaging.ctf import contrast_transfer
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import euler_from_matrix, uniform_rotations

TARGETS = {"star": "converted.star", "cs": "converted.cs", "cryodrgn": "converted"}


@pytest.fixture
def original(dataset):
    """The small RELION data set, with generic rotations, and no B-factor, which cryoDRGN could not keep."""
    dataset.particles["rlnCtfBfactor"] = 0.0
    angles = euler_from_matrix(uniform_rotations(5, 7))
    dataset.particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]] = angles
    return dataset.write()


def assert_same(read, expected):
    """Equal to float32, in which cryoSPARC and cryoDRGN keep their numbers."""
    np.testing.assert_allclose(read.rotations, expected.rotations, atol=3e-7)
    np.testing.assert_allclose(read.shifts_angstrom, expected.shifts_angstrom, atol=3e-6)
    np.testing.assert_allclose(read.pixel_sizes_angstrom, expected.pixel_sizes_angstrom, rtol=1e-7)
    np.testing.assert_array_equal(read.boxes, expected.boxes)
    np.testing.assert_array_equal(read.half_set, expected.half_set)
    for name in expected.ctf.__dataclass_fields__:
        np.testing.assert_allclose(getattr(read.ctf, name), getattr(expected.ctf, name), rtol=2e-7, atol=1e-5)
    same_group = expected.optics_group[:, None] == expected.optics_group
    np.testing.assert_array_equal(read.optics_group[:, None] == read.optics_group, same_group)
    for row in range(len(expected)):
        rows = np.array([row])
        np.testing.assert_array_equal(read.images(rows), expected.images(rows))


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(TARGETS, 2)))
def test_there_and_back_again(original, tmp_path, first, second):
    """Each format from each other, in another folder, and back."""
    expected = load_particles(original)
    start = tmp_path / "first" / TARGETS[first]
    there, back = tmp_path / "elsewhere" / TARGETS[second], tmp_path / "last" / f"again_{TARGETS[first]}"
    convert(original, start, invert="yes")
    convert(start, there, invert="yes")
    convert(there, back, invert="yes")
    for path in (start, there, back):
        assert_same(load_particles(path), expected)
    # The way there is where something can be lost; nothing more is on the way back.
    np.testing.assert_allclose(load_particles(back).rotations, load_particles(there).rotations, atol=1e-7)


def test_all_formats_give_the_same_projections(original, tmp_path):
    volume = torch.from_numpy(np.random.default_rng(0).random(8**3).astype(np.float32))
    spectra = []
    for target in TARGETS.values():
        convert(original, tmp_path / target, invert="no")
        particles = load_particles(tmp_path / target)
        images = [
            splat_project(
                volume[None],
                grid_points(8, 1.5),
                torch.from_numpy(particles.rotations[row : row + 1]).float(),
                torch.from_numpy(particles.shifts_angstrom[row : row + 1]).float(),
                8,
                float(particles.pixel_sizes_angstrom[row]),
            )[0]
            for row in range(len(particles))
        ]
        pixel_sizes = torch.from_numpy(particles.pixel_sizes_angstrom).float()
        spectra.append(torch.stack(images) * contrast_transfer(particles.ctf, 8, pixel_sizes))
    for other in spectra[1:]:
        assert (other - spectra[0]).abs().max() < 1e-5 * spectra[0].abs().max()


def test_mixed_boxes_and_premultiplied_images(dataset, tmp_path):
    dataset.stacks["sub/second.mrcs"] = np.random.default_rng(2).normal(size=(4, 12, 12)).astype(np.float32)
    dataset.optics["rlnImageSize"] = [12, 8]
    original = dataset.write()
    convert(original, tmp_path / "out" / "a.star")
    read = load_particles(tmp_path / "out" / "a.star")
    assert read.boxes.tolist() == [8, 12, 8, 12, 12]
    dataset.optics["rlnCtfDataAreCtfPremultiplied"] = [0, 1]
    original = dataset.write()
    convert(original, tmp_path / "out" / "a.star")
    assert load_particles(tmp_path / "out" / "a.star").premultiplied.tolist() == [True, False, True, False, False]
    for target in ("a.cs", "folder"):
        with pytest.raises(InputError, match="multiplied by their CTF, which"):
            convert(original, tmp_path / "out" / target, invert="no")


def test_paths(original, tmp_path):
    """Relative where the stacks lie below the new file, absolute elsewhere, as they are where they are not here."""
    names = read_star_tables(original)[0]["rlnImageName"].tolist()
    convert(original, tmp_path / "again.star")
    assert [name.lstrip("0") for name in read_star_tables(tmp_path / "again.star")[0]["rlnImageName"]] == [
        name.lstrip("0") for name in names
    ]
    convert(original, tmp_path / "other" / "a.star")
    elsewhere = read_star_tables(tmp_path / "other" / "a.star")[0]["rlnImageName"]
    assert elsewhere[0] == f"000002@{tmp_path.resolve() / 'first.mrcs'}"
    convert(original, tmp_path / "a.cs", invert="no")
    assert read_dataset(tmp_path / "a.cs")["blob/path"].tolist()[:2] == [">first.mrcs", ">sub/second.mrcs"]
    (tmp_path / "first.mrcs").unlink()
    convert(original, tmp_path / "other" / "b.star")
    kept = read_star_tables(tmp_path / "other" / "b.star")[0]["rlnImageName"]
    assert [name for name in kept if "first" in name] == [name for name in names if "first" in name]
    assert kept[1] == f"000004@{tmp_path.resolve() / 'sub/second.mrcs'}"


def test_a_cryosparc_file_that_can_be_imported(original, tmp_path):
    written = convert(original, tmp_path / "a.cs", invert="yes")
    assert written == [tmp_path / "a.cs", tmp_path / "a.csg"]
    dataset = read_dataset(tmp_path / "a.cs")
    types = {name: (kind, *shape) for name, kind, *shape in dataset.descr()}
    assert types["uid"] == ("<u8",)
    assert types["blob/shape"] == ("<u4", (2,))
    assert types["alignments3D/pose"] == ("<f4", (3,))
    assert types["alignments3D/split"] == types["blob/idx"] == ("<u4",)
    # All else is float32, text, or the whole numbers that cryoSPARC's own files have.
    assert {name for name, kind in types.items() if kind[0] not in ("<f4", "|O")} == {
        "uid", "blob/idx", "blob/shape", "blob/import_sig", "ctf/exp_group_id", "alignments3D/split",
        "alignments3D/class",
    }  # fmt: skip
    assert (np.asarray(dataset["blob/sign"]) == -1).all()
    group = yaml.safe_load((tmp_path / "a.csg").read_text())
    assert set(group["results"]) == {"blob", "ctf", "alignments3D"}
    assert all(result["num_items"] == 5 for result in group["results"].values())


def test_the_fields_are_those_of_a_real_file(original, tmp_path, shared_data):
    convert(original, tmp_path / "a.cs", invert="yes")
    ours = {name: rest for name, *rest in read_dataset(tmp_path / "a.cs").descr()}
    real = read_dataset(shared_data / "metadata" / "cryosparc_P12_J24_001_particles.cs").descr()
    assert all(ours[name] == rest for name, *rest in real)


def test_contrast_of_a_cryosparc_file(shared_data, original, tmp_path):
    """The contrast is what the file says, or what the images show; where neither does, the user must say it."""
    with pytest.raises(InputError, match=r"say it with --invert yes \(dark\) or --invert no \(white\)"):
        convert(original, tmp_path / "a.cs")
    assert not (tmp_path / "a.cs").exists()
    real = shared_data / "metadata" / "cryosparc_P12_J24_001_particles.cs"
    convert(real, tmp_path / "b.cs")
    assert load_particles(tmp_path / "b.cs", require_images=False).declared_sign == -1
    convert(real, tmp_path / "b.star")
    with pytest.raises(InputError, match="cannot be seen without the images"):
        convert(tmp_path / "b.star", tmp_path / "c.cs")
    simulated = shared_data / "stacks" / "spike64" / "particles.star"
    convert(simulated, tmp_path / "d.cs")
    assert load_particles(tmp_path / "d.cs", require_images=False).declared_sign == 1


def test_b_factors_are_named_where_they_are_lost(dataset, tmp_path, caplog):
    original = dataset.write()
    convert(original, tmp_path / "a.cs", invert="no")
    np.testing.assert_array_equal(load_particles(tmp_path / "a.cs").ctf.b_factor_angstrom2, [0, 0, 50, 0, 0])
    with caplog.at_level(logging.WARNING):
        convert(original, tmp_path / "out")
    assert "its B-factors are left out" in caplog.text


def test_unknown_boxes(dataset, tmp_path):
    """RELION 3.0 files do not say the box; without the stacks it cannot be known."""
    dataset.optics = dataset.optics.drop(columns="rlnImageSize")
    original = dataset.write()
    convert(original, tmp_path / "a.cs", invert="no")
    (tmp_path / "first.mrcs").unlink()
    for target in ("b.cs", "b"):
        with pytest.raises(InputError, match="size of"):
            convert(original, tmp_path / target, invert="no")
    convert(original, tmp_path / "b.star")


def test_targets_that_cannot_be_written(original, tmp_path):
    with pytest.raises(InputError, match=r"expected a name that ends in \.star, \.cs or \.pkl"):
        convert(original, tmp_path / "a.docx")
    content = original.read_bytes()
    with pytest.raises(InputError, match="is what the particles are read from"):
        convert(original, original)
    assert original.read_bytes() == content


def test_images_with_pickles(original, tmp_path):
    """A list of images with cryoDRGN's poses: as it comes from a user, not from here."""
    expected = load_particles(original)
    convert(original, tmp_path / "drgn")
    (tmp_path / "list.txt").write_text("first.mrcs\nsub/second.mrcs\n")
    with pytest.raises(InputError, match=r"poses.pkl has 5 rows, but .*list.txt has 7 images"):
        convert(tmp_path / "list.txt", tmp_path / "a.star", poses=tmp_path / "drgn/poses.pkl",
                ctf=tmp_path / "drgn/ctf.pkl")  # fmt: skip
    convert(original, tmp_path / "a.star", poses=tmp_path / "drgn/poses.pkl", ctf=tmp_path / "drgn/ctf.pkl")
    assert_same(load_particles(tmp_path / "a.star"), expected)


def test_command(original, tmp_path, capsys):
    assert main(["convert", str(original), str(tmp_path / "out" / "poses.pkl")]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "out" / name) for name in ("poses.pkl", "ctf.pkl", "images.star")
    ]
    assert main(["convert", str(tmp_path / "out"), str(tmp_path / "a.cs"), "--invert", "no"]) == 0
    assert main(["convert", str(tmp_path / "a.cs"), str(tmp_path / "a.txt")]) == 2
    with mrcfile.open(tmp_path / "first.mrcs", header_only=True) as mrc:
        assert mrc.header.nz == 3
