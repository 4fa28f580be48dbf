"""Whole files or none, and MRC volumes whose header tells the truth."""

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.errors import InputError
from cryoformer.files import atomic_path, read_mrc_volume, write_mrc_volume


def volume_of(shape=(4, 6, 8)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_atomic_path_renames_on_success_and_makes_folders(tmp_path):
    target = tmp_path / "new" / "folder" / "latents.npz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".npz"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_path_leaves_the_old_file_on_failure(tmp_path):
    target = tmp_path / "config.yaml"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_below_a_file_is_the_users_error(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match="cannot make the folder"), atomic_path(tmp_path / "run" / "volumes" / "a.mrc"):
        pass


@given(
    depth=st.integers(1, 9),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    pixel_size=st.floats(0.1, 50),
)
def test_volume_round_trip(tmp_path_factory, depth, height, width, pixel_size):
    path = tmp_path_factory.mktemp("volumes") / "a.mrc"
    volume = volume_of((depth, height, width))
    write_mrc_volume(path, volume, pixel_size)
    read, read_size = read_mrc_volume(path)
    np.testing.assert_array_equal(read, volume)
    # The header keeps the cell in float32.
    assert read_size == pytest.approx(pixel_size, rel=1e-6)


def test_header_of_a_written_volume(tmp_path, capsys):
    volume = volume_of()
    write_mrc_volume(tmp_path / "a.mrc", volume.astype(np.float64), 1.5)
    assert mrcfile.validate(tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as mrc:
        assert mrc.data.dtype == np.float32
        assert mrc.is_volume()
        # As in the maps of RELION and cryoSPARC.
        assert [float(mrc.header.origin[axis]) for axis in "xyz"] == [0, 0, 0]
        assert float(mrc.header.dmean) == pytest.approx(float(volume.mean()), abs=1e-6)
        assert float(mrc.header.dmax) == pytest.approx(float(volume.max()))


def test_axes_in_another_order_are_turned(tmp_path):
    """A map stored x slowest (columns z, rows y, sections x) comes out as [z, y, x]."""
    volume = volume_of()
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(np.ascontiguousarray(volume.transpose(2, 1, 0)))
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 2, 1
    np.testing.assert_array_equal(read_mrc_volume(tmp_path / "a.mrc")[0], volume)


def test_cyclic_axis_order(tmp_path):
    """Sections y, rows x, columns z: a permutation that is not its own inverse."""
    volume = volume_of()
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(np.ascontiguousarray(volume.transpose(1, 2, 0)))
        mrc.header.maps, mrc.header.mapr, mrc.header.mapc = 2, 1, 3
    np.testing.assert_array_equal(read_mrc_volume(tmp_path / "a.mrc")[0], volume)


def test_a_header_without_identifier_is_read(tmp_path):
    volume = volume_of()
    write_mrc_volume(tmp_path / "a.mrc", volume, 1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    raw[208:216] = bytes(8)
    (tmp_path / "a.mrc").write_bytes(raw)
    np.testing.assert_array_equal(read_mrc_volume(tmp_path / "a.mrc")[0], volume)


def test_volumes_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.mrc"
    with pytest.raises(InputError, match=r"a.mrc: no such file"):
        read_mrc_volume(path)
    path.write_bytes(b"short")
    with pytest.raises(InputError, match=r"a.mrc: cannot be read as an MRC volume"):
        read_mrc_volume(path)
    write_mrc_volume(path, volume_of(), 1.0)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="cut short"):
        read_mrc_volume(path)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match="expected a volume"):
        read_mrc_volume(path)
