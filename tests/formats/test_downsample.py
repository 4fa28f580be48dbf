"""Downsampling: where the content goes, what the tables say, stopping and going on."""

import json
import os

import mrcfile
import numpy as np
import pytest
import starfile
import torch

from cryoformer.errors import InputError
from cryoformer.formats import downsample as module
from cryoformer.formats import load_particles
from cryoformer.formats.downsample import crop_images, downsample
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.imaging.ctf import CTFParameters


def blob(box, pixel_size, centre, sigma=6.0):
    """A Gaussian at ``centre`` (x, y) in Angstrom from pixel ``box // 2``."""
    axis = (np.arange(box) - box // 2) * pixel_size
    squares = (axis[None, :] - centre[0]) ** 2 + (axis[:, None] - centre[1]) ** 2
    return np.exp(-squares / (2 * sigma**2)).astype(np.float32)


@pytest.mark.parametrize(("side", "box"), [(64, 32), (65, 32), (65, 48), (33, 32), (64, 62)])
@pytest.mark.parametrize("centre", [(0.0, 0.0), (7.3, -11.1)])
def test_content_stays_where_it_is(side, box, centre):
    """A blob without frequencies beyond the new Nyquist is the same function, sampled more coarsely."""
    pixel_size, scale = 1.3, side / 64
    centre, sigma = (centre[0] * scale, centre[1] * scale), 6 * scale
    smaller = crop_images(blob(side, pixel_size, centre, sigma)[None], box)[0]
    expected = blob(box, pixel_size * side / box, centre, sigma)
    # 2e-3: what the tails beyond the box and the dropped Nyquist frequency hold.
    np.testing.assert_allclose(smaller, expected, atol=2e-3)


@pytest.mark.parametrize(("side", "box"), [(16, 8), (17, 8), (16, 16), (9, 8)])
def test_the_mean_is_kept(side, box):
    images = np.random.default_rng(0).normal(3.0, 1.0, (5, side, side)).astype(np.float32)
    np.testing.assert_allclose(crop_images(images, box).mean((1, 2)), images.mean((1, 2)), rtol=1e-5)


def test_tables_pixel_sizes_and_images(dataset):
    dataset.optics["rlnImageSize"] = 8
    dataset.particles["rlnNote"] = ["0001", "1e5", "x", "-0.0", "00"]
    before = load_particles(dataset.write())
    out = downsample(dataset.path, 4, dataset.folder / "small")
    after = load_particles(out)
    np.testing.assert_allclose(after.pixel_sizes_angstrom, 2 * before.pixel_sizes_angstrom)
    np.testing.assert_array_equal(after.shifts_angstrom, before.shifts_angstrom)
    np.testing.assert_array_equal(after.rotations, before.rotations)
    assert after.boxes.tolist() == [4] * 5
    rows = np.arange(5)
    np.testing.assert_allclose(after.images(rows), crop_images(before.images(rows), 4), atol=1e-6)
    text = out.read_text()
    assert [line.split()[-1] for line in text.splitlines() if "@" in line] == dataset.particles["rlnNote"].tolist()
    assert "late" in text


def test_written_stacks_are_valid(dataset, capsys):
    dataset.write()
    downsample(dataset.path, 6, dataset.folder / "small")
    path = dataset.folder / "small" / "particles.mrcs"
    assert mrcfile.validate(path), capsys.readouterr().out
    with mrcfile.open(path) as mrc:
        assert mrc.is_image_stack()
        assert mrc.data.shape == (5, 6, 6)
        assert float(mrc.voxel_size.x) == pytest.approx(1.52 * 8 / 6)
        assert float(mrc.header.dmean) == pytest.approx(float(mrc.data.mean(dtype=np.float64)), abs=1e-6)
        assert float(mrc.header.rms) == pytest.approx(float(mrc.data.std(dtype=np.float64)), rel=1e-5)
        assert float(mrc.header.dmax) == float(mrc.data.max())


def test_relion_30_origins_follow_the_pixels(dataset):
    names = {"rlnOriginXAngst": "rlnOriginX", "rlnOriginYAngst": "rlnOriginY"}
    dataset.particles = dataset.particles.drop(columns="rlnOpticsGroup").rename(columns=names)
    dataset.particles = dataset.particles.assign(
        rlnVoltage=300.0,
        rlnSphericalAberration=2.7,
        rlnAmplitudeContrast=0.1,
        rlnMagnification=[40000.0, 40000.0, 40000.0, 40000.0, 20000.0],
        rlnDetectorPixelSize=6.0,
    )
    before = load_particles(dataset.write(optics=False))
    after = load_particles(downsample(dataset.path, 4, dataset.folder / "small"))
    np.testing.assert_allclose(after.pixel_sizes_angstrom, 2 * before.pixel_sizes_angstrom)
    np.testing.assert_allclose(after.shifts_angstrom, before.shifts_angstrom, atol=1e-5)


def test_optics_groups_with_boxes_of_their_own(dataset):
    dataset.stacks["sub/second.mrcs"] = np.random.default_rng(2).normal(size=(4, 12, 12)).astype(np.float32)
    dataset.optics["rlnImageSize"] = [12, 8]
    before = load_particles(dataset.write())
    after = load_particles(downsample(dataset.path, 6, dataset.folder / "small"))
    np.testing.assert_allclose(after.pixel_sizes_angstrom, before.pixel_sizes_angstrom * before.boxes / 6)
    for row in range(5):
        expected = crop_images(before.images(np.array([row])), 6)
        np.testing.assert_allclose(after.images(np.array([row])), expected, atol=1e-6)


def test_one_optics_group_with_two_boxes_is_refused(dataset):
    dataset.stacks["sub/second.mrcs"] = np.zeros((4, 12, 12), np.float32)
    dataset.optics = dataset.optics.drop(columns="rlnImageSize").iloc[:1]
    dataset.particles["rlnOpticsGroup"] = 7
    with pytest.raises(InputError, match="optics group 7 has images of different sizes"):
        downsample(dataset.write(), 6, dataset.folder / "small")


def test_rows_that_share_an_image_share_the_new_one(dataset):
    dataset.particles["rlnImageName"] = [f"{name}first.mrcs" for name in ("2@", "000002@./", "3@", "2@", "1@")]
    before = load_particles(dataset.write())
    after = load_particles(downsample(dataset.path, 4, dataset.folder / "small"))
    rows = np.arange(5)
    np.testing.assert_allclose(after.images(rows), crop_images(before.images(rows), 4), atol=1e-6)


@pytest.mark.parametrize("per_file", [1, 2, 3, 5, 100])
def test_several_files(dataset, per_file):
    before = load_particles(dataset.write())
    out = downsample(dataset.path, 4, dataset.folder / "small", per_file=per_file)
    assert len(list(out.parent.glob("*.mrcs"))) == -(-5 // min(per_file, 5))
    after = load_particles(out)
    np.testing.assert_allclose(after.images(np.arange(5)), crop_images(before.images(np.arange(5)), 4), atol=1e-6)


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (np.float16, None, 12),
        (np.float32, None, 2),
        (np.int8, None, 2),
        (np.float32, "float16", 12),
        (np.float16, "float32", 2),
    ],
)
def test_pixel_types(dataset, given, wanted, expected):
    dataset.stacks = {name: (10 * images).astype(given) for name, images in dataset.stacks.items()}
    downsample(dataset.write(), 4, dataset.folder / "small", dtype=wanted)
    with mrcfile.open(dataset.folder / "small" / "particles.mrcs") as mrc:
        assert mrc.header.mode == expected


class Stopped(Exception):
    pass


@pytest.mark.parametrize("beyond", [0, 10, 100, 10**5])
@pytest.mark.parametrize("per_file", [None, 2])
def test_a_stopped_run_goes_on(dataset, monkeypatch, beyond, per_file):
    """Killed after three images, and in the middle of writing the fourth."""
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 8 * 8)
    options = {"per_file": per_file}
    whole = downsample(dataset.write(), 4, dataset.folder / "whole", **options)

    def stop(done, count):
        if done == 3:
            raise Stopped

    folder = dataset.folder / "small"
    with pytest.raises(Stopped):
        downsample(dataset.path, 4, folder, progress=stop, **options)
    assert not (folder / "particles.star").exists()
    last = sorted(folder.glob("*.mrcs"))[-1]
    with last.open("ab") as file:
        file.write(b"x" * beyond)
    written = []
    out = downsample(dataset.path, 4, folder, progress=lambda done, count: written.append(done), **options)
    assert written == [4, 5]
    for path in whole.parent.glob("*.mrcs"):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert out.read_text() == whole.read_text().replace("/whole/", "/small/")


def test_a_run_stopped_in_its_first_chunk_goes_on(dataset, monkeypatch):
    before = load_particles(dataset.write())

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(module.StackStatistics, "add", stop)
        with pytest.raises(Stopped):
            downsample(dataset.path, 4, dataset.folder / "small")
    assert (dataset.folder / "small" / "particles.mrcs").exists()
    after = load_particles(downsample(dataset.path, 4, dataset.folder / "small"))
    np.testing.assert_allclose(after.images(np.arange(5)), crop_images(before.images(np.arange(5)), 4), atol=1e-6)


def test_a_finished_run_is_left_as_it_is(dataset):
    out = downsample(dataset.write(), 4, dataset.folder / "small")
    before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert downsample(dataset.path, 4, out.parent, progress=lambda done, count: pytest.fail("images")) == out
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before


def test_other_settings_in_the_same_folder(dataset):
    out = downsample(dataset.write(), 4, dataset.folder / "small")
    with pytest.raises(InputError, match="another file, or with other settings"):
        downsample(dataset.path, 6, out.parent)
    os.utime(dataset.folder / "first.mrcs", (1, 2e9))
    with pytest.raises(InputError, match="another file, or with other settings"):
        downsample(dataset.path, 4, out.parent)
    (out.parent / "downsample.json").write_text("[")
    with pytest.raises(InputError, match=r"downsample.json: cannot be read"):
        downsample(dataset.path, 4, out.parent)
    (out.parent / "downsample.json").unlink()
    with pytest.raises(InputError, match="exists already"):
        downsample(dataset.path, 4, out.parent)


def test_images_that_were_lost_meanwhile(dataset):
    out = downsample(dataset.write(), 4, dataset.folder / "small")
    record = json.loads((out.parent / "downsample.json").read_text())
    assert record["images"] == 5
    os.truncate(out.parent / "particles.mrcs", 1024)
    with pytest.raises(InputError, match="has 1024 bytes, an earlier run wrote"):
        downsample(dataset.path, 4, out.parent)


@pytest.mark.parametrize(
    ("box", "message"), [(5, "even number"), (0, "even number"), (-4, "even number"), (10, "would make it larger")]
)
def test_boxes_that_do_not_fit(dataset, box, message):
    with pytest.raises(InputError, match=message):
        downsample(dataset.write(), box, dataset.folder / "small")


def test_what_cannot_be_downsampled(dataset, monkeypatch):
    with pytest.raises(InputError, match="holds the file to downsample"):
        downsample(dataset.write(), 4, dataset.folder)
    with pytest.raises(InputError, match=r"only \.star and \.cs"):
        downsample(dataset.folder / "first.mrcs", 4, dataset.folder / "small")
    dataset.stacks["first.mrcs"][1, 2, 3] = np.nan
    with pytest.raises(InputError, match=r"row 1: image 2@.*first.mrcs holds NaN"):
        downsample(dataset.write(), 4, dataset.folder / "small")
    dataset.stacks["first.mrcs"][:] = 1e6
    with pytest.raises(InputError, match="too large for float16; give --dtype float32"):
        downsample(dataset.write(), 4, dataset.folder / "other", dtype="float16")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(InputError, match="the images need"):
        downsample(dataset.path, 4, dataset.folder / "third")


def test_projections_agree_with_the_model_at_the_new_pixel_size(tmp_path):
    """Points projected by the conventions, downsampled by half: what the new file says puts them in the same place."""
    generator = np.random.default_rng(5)
    points = generator.normal(scale=12.0, size=(6, 3))
    from cryoformer.imaging.rotations import matrix_from_euler

    rotations = matrix_from_euler(generator.uniform(-180, 180, (4, 3)))
    shifts = generator.uniform(-6, 6, (4, 2))
    places = np.einsum("nij,pj->npi", rotations, points)[..., :2] + shifts[:, None]

    def project(box, pixel_size, centres):
        return np.stack([sum(blob(box, pixel_size, point, 4.0) for point in of_image) for of_image in centres])

    with mrcfile.new(tmp_path / "a.mrcs") as mrc:
        mrc.set_data(project(63, 1.5, places))
        mrc.set_image_stack()
    columns = (torch.full((4,), value) for value in (1e4, 1e4, 0.0, 300.0, 2.7, 0.1, 0.0, 0.0))
    names = [f"{row + 1}@a.mrcs" for row in range(4)]
    write_particles_star(tmp_path / "a.star", names, rotations, shifts, CTFParameters(*columns), 1.5, 63)
    small = load_particles(downsample(tmp_path / "a.star", 42, tmp_path / "small"))
    again = np.einsum("nij,pj->npi", small.rotations, points)[..., :2] + small.shifts_angstrom[:, None]
    expected = project(42, small.pixel_size_angstrom, again)
    # 1e-3: six decimals of the file, and blobs cut off by the box.
    np.testing.assert_allclose(small.images(np.arange(4)), expected, atol=1e-3)


def test_cryosparc_files(tmp_path):
    from cryosparc.dataset import Dataset

    images = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    with mrcfile.new(tmp_path / "a.mrcs") as mrc:
        mrc.set_data(images)
        mrc.set_image_stack()
    data = Dataset.allocate(
        3,
        [
            ("blob/path", "O"),
            ("blob/idx", "<u4"),
            ("blob/shape", "<u4", (2,)),
            ("blob/psize_A", "<f4"),
            ("alignments2D/shift", "<f4", (2,)),
            ("alignments3D/shift", "<f4", (2,)),
            ("alignments3D/psize_A", "<f4"),
        ],
    )
    data["uid"] = np.array([5, 7, 6], dtype=np.uint64)
    data["blob/path"] = [">a.mrcs"] * 3
    data["blob/idx"] = [2, 0, 1]
    data["blob/shape"] = 8
    data["blob/psize_A"] = 1.5
    data["alignments3D/psize_A"] = 1.5
    data["alignments2D/shift"] = data["alignments3D/shift"] = [[1, 2], [3, 4], [5, 6]]
    data.save(tmp_path / "a.cs")
    out = downsample(tmp_path / "a.cs", 4, tmp_path / "small")
    after = Dataset.load(out)
    assert after["uid"].tolist() == [5, 7, 6]
    assert after["blob/psize_A"].tolist() == [3.0] * 3
    assert after["blob/shape"].tolist() == [[4, 4]] * 3
    assert after["alignments3D/shift"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert after["alignments2D/shift"].tolist() == [[0.5, 1], [1.5, 2], [2.5, 3]]
    assert set(after["blob/path"]) == {">particles.mrcs"}
    with mrcfile.open(out.parent / "particles.mrcs") as mrc:
        np.testing.assert_allclose(mrc.data[after["blob/idx"].tolist()], crop_images(images[[2, 0, 1]], 4), atol=1e-6)
    assert out.with_suffix(".csg").exists()


def test_star_of_the_oracle_reads_back(shared_data, tmp_path):
    """RELION's own odd-sized projections: the smaller images still show what the map projects to."""
    path = shared_data / "oracle" / "rln_proj_65_centered.star"
    out = downsample(path, 32, tmp_path / "small")
    optics = starfile.read(out)["optics"]
    assert optics["rlnImageSize"].item() == 32
    assert optics["rlnImagePixelSize"].item() == pytest.approx(65 / 32, abs=1e-6)
