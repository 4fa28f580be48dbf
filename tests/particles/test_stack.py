"""Stacks: pixel types, odd headers, reading no more than what is asked for."""

import bz2
import gzip
import tracemalloc

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.particles.particles import finite_images
from cryoformer.particles.stack import ImageStacks, StackHeader, read_stack, read_stack_header


def write_stack(path, images, **header):
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images)
        for name, value in header.items():
            mrc.header[name] = value
    return path


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32, np.float16])
def test_pixel_types(tmp_path, dtype):
    images = (np.arange(2 * 36).reshape(2, 6, 6) % 100).astype(dtype)
    header = read_stack_header(write_stack(tmp_path / "a.mrcs", images))
    np.testing.assert_array_equal(read_stack(header, np.array([0, 1])), images.astype(np.float32))


def test_big_endian(tmp_path):
    images = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    with mrcfile.new(tmp_path / "a.mrcs") as mrc:
        mrc.set_data(images.astype(">f4"))
    header = read_stack_header(tmp_path / "a.mrcs")
    np.testing.assert_array_equal(read_stack(header, np.array([1])), images[1:])


def test_headers_without_identifier_and_with_extension(tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    path = tmp_path / "a.mrcs"
    with mrcfile.new(path) as mrc:
        mrc.set_data(images)
        mrc.set_extended_header(np.zeros(100, dtype="V1"))
    raw = bytearray(path.read_bytes())
    raw[208:216] = bytes(8)
    path.write_bytes(raw + b"trailing bytes do no harm")
    header = read_stack_header(path)
    assert header.offset == 1124
    np.testing.assert_array_equal(read_stack(header, np.array([0, 2])), images[[0, 2]])


@pytest.mark.parametrize("library", [gzip, bz2])
def test_compressed_stacks(tmp_path, library):
    images = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    raw = write_stack(tmp_path / "a.mrcs", images).read_bytes()
    path = tmp_path / "a.mrcs.gz"
    path.write_bytes(library.compress(raw))
    header = read_stack_header(path)
    assert header.path == path
    np.testing.assert_array_equal(read_stack(header, np.array([0, 2])), images[[0, 2]])
    path.write_bytes(library.compress(raw[:-1]))
    with pytest.raises(InputError, match=r"a.mrcs.gz: cut short: .* \(2 whole images\)"):
        read_stack_header(path)
    path.write_bytes(library.compress(raw)[:-20])
    with pytest.raises(InputError, match=r"a.mrcs.gz: cannot be decompressed"):
        read_stack_header(path)


def test_four_bit_images_are_refused(tmp_path):
    path = write_stack(tmp_path / "a.mrcs", np.zeros((2, 4, 4), np.int8), mode=101)
    with pytest.raises(InputError, match="MRC mode 101 cannot be read as images; expected one of 0"):
        read_stack_header(path)


@pytest.mark.parametrize(("stamp", "flags", "signed"), [(1146047817, 0, False), (1146047817, 1, True), (0, 0, True)])
def test_unsigned_bytes_of_imod(tmp_path, stamp, flags, signed):
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4) + 112
    path = write_stack(tmp_path / "a.mrcs", images.view(np.int8))
    raw = bytearray(path.read_bytes())
    raw[152:160] = np.array([stamp, flags], dtype="<i4").tobytes()
    path.write_bytes(raw)
    expected = images.view(np.int8) if signed else images
    np.testing.assert_array_equal(read_stack(read_stack_header(path), np.array([0, 1])), expected.astype(np.float32))


@pytest.mark.parametrize(("field", "value"), [("nz", 0), ("nz", -1), ("nsymbt", -5), ("nx", -8), ("nz", 2**31 - 1)])
def test_impossible_headers(tmp_path, field, value):
    path = write_stack(tmp_path / "a.mrcs", np.zeros((2, 4, 4), np.float32), **{field: value})
    with pytest.raises(InputError, match=r"a.mrcs: "):
        read_stack_header(path)


def test_a_promised_extended_header_costs_no_memory(tmp_path):
    path = write_stack(tmp_path / "a.mrcs", np.zeros((2, 4, 4), np.float32), nsymbt=2**30)
    tracemalloc.start()
    with pytest.raises(InputError, match="cut short"):
        read_stack_header(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_single_image_is_a_stack_of_one(tmp_path):
    header = read_stack_header(write_stack(tmp_path / "a.mrc", np.ones((4, 4), np.float32)))
    assert (header.count, header.box) == (1, 4)


def test_only_the_asked_rows_are_read(tmp_path):
    """A stack of 4 GiB (sparse on disk) costs the memory of the rows asked for."""
    path = write_stack(tmp_path / "big.mrcs", np.zeros((1, 64, 64), np.float32), nz=2**18, mz=2**18)
    with path.open("r+b") as file:
        file.truncate(1024 + 2**18 * 64 * 64 * 4)
        file.seek(1024 + (2**18 - 1) * 64 * 64 * 4)
        file.write(np.full(64 * 64, 7, np.float32).tobytes())
    header = read_stack_header(path)
    tracemalloc.start()
    images = read_stack(header, np.array([5, 2**18 - 1]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert images[0].max() == 0
    assert images[1].min() == 7
    assert peak < 8 * images.nbytes


def test_a_stack_written_anew_is_read_anew(tmp_path):
    for value in (1.0, 2.0):
        path = write_stack(tmp_path / "new.mrcs", np.full((1, 4, 4), value, np.float32))
        path.rename(tmp_path / "a.mrcs")
        assert read_stack(read_stack_header(tmp_path / "a.mrcs"), np.array([0])).max() == value


def test_a_stack_that_shrinks_meanwhile_is_an_error(tmp_path):
    path = write_stack(tmp_path / "a.mrcs", np.ones((4, 4, 4), np.float32))
    header = read_stack_header(path)
    with path.open("r+b") as file:
        file.truncate(1024 + 100)
    with pytest.raises(InputError, match=r"a.mrcs: cannot be read"):
        read_stack(header, np.array([3]))


def test_largest_finite_pixels_are_not_taken_for_infinite():
    images = np.full((2, 8, 8), np.finfo(np.float32).max)
    images[1, 0, 0] = np.inf
    assert finite_images(images).tolist() == [True, False]


@given(rows=st.lists(st.integers(0, 11), min_size=1, max_size=30))
def test_any_rows_in_any_order(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("stacks")
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float32)
    headers: tuple[StackHeader, ...] = tuple(
        read_stack_header(write_stack(folder / f"{number}.mrcs", stack)) for number, stack in enumerate(images)
    )
    stack_of_row = np.array([2, 0, 1, 0, 2, 2, 1, 1, 0, 0, 1, 2])
    index_of_row = np.array([3, 0, 0, 1, 2, 0, 1, 3, 3, 2, 2, 1])
    stacks = ImageStacks(headers, stack_of_row, index_of_row)
    asked = np.array(rows, dtype=np.int64)
    np.testing.assert_array_equal(stacks.read(asked), images[stack_of_row[asked], index_of_row[asked]])


def test_chunks_cover_all_rows_in_disk_order(dataset):
    stacks = load_particles(dataset.write()).stacks
    chunks = list(stacks.chunks(2 * 4 * 8 * 8))
    assert [len(rows) for rows, _ in chunks] == [2, 2, 1]
    assert np.concatenate([rows for rows, _ in chunks]).tolist() == [2, 0, 3, 4, 1]
    for rows, images in chunks:
        np.testing.assert_array_equal(images, np.stack([dataset.image(row) for row in rows]))


def test_a_chunk_has_images_of_one_box(dataset):
    dataset.stacks["first.mrcs"] = np.zeros((3, 10, 10), np.float32)
    dataset.optics["rlnImageSize"] = [8, 10]
    chunks = list(load_particles(dataset.write()).stacks.chunks(10**6))
    assert [(rows.tolist(), images.shape[-1]) for rows, images in chunks] == [([3, 4, 1], 8), ([2, 0], 10)]
