"""Masks that are given: one clear error for each way of not being one, and where they are used."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume
from cryoformer.imaging.grids import voxel_radii
from cryoformer.linear.regions import Regions, read_mask, read_regions, regions_of_run, write_regions

BOX, PIXEL = 24, 5.0


def ball(radius: float, box: int = BOX) -> np.ndarray:
    """A soft ball, as masks of refinements are."""
    return (radius - voxel_radii(box) + 0.5).clamp(0, 1).numpy().astype(np.float32)


def written(path: Path, values: np.ndarray, pixel_size: float = PIXEL) -> Path:
    write_mrc_volume(path, values, pixel_size)
    return path


def read(path: Path) -> torch.Tensor:
    return read_mask(path, "--mask", BOX, PIXEL)


def test_a_soft_mask_stays_as_it_is(tmp_path):
    np.testing.assert_allclose(read(written(tmp_path / "a.mrc", ball(7))).numpy(), ball(7), atol=1e-6)


def test_a_sharp_mask_gets_a_soft_edge(tmp_path):
    found = read(written(tmp_path / "a.mrc", (ball(7) > 0.5).astype(np.float32)))
    assert float(found[12, 12, 12]) == 1.0
    assert ((found > 0.05) & (found < 0.95)).sum() > 100
    assert torch.all(found[ball(7) > 0.5] == 1)


@pytest.mark.parametrize("box", [48, 36, 25])
def test_a_mask_of_another_box_of_the_same_size(tmp_path, box):
    """Of the refinement that images were downsampled from, or of an odd box, of which a pixel was cropped."""
    values = ball(7 * box / BOX, box)
    found = read(written(tmp_path / "a.mrc", values, PIXEL * BOX / box))
    assert found.shape == (BOX, BOX, BOX)
    assert float((found - torch.from_numpy(ball(7))).abs().mean()) < 0.01


@pytest.mark.parametrize("pixel_size", [0.0, 1.0])
def test_a_pixel_size_that_tools_write_who_do_not_know_it(tmp_path, pixel_size):
    assert float(read(written(tmp_path / "a.mrc", ball(7), pixel_size)).sum()) > 0
    with pytest.raises(InputError, match="no pixel size"):
        read(written(tmp_path / "b.mrc", ball(14, 48), pixel_size))


def shifted(path: Path, **header: float) -> Path:
    written(path, ball(7))
    with mrcfile.open(path, mode="r+") as mrc:
        for name, value in header.items():
            if name.startswith("origin_"):
                mrc.header.origin[name[-1]] = value
            else:
                mrc.header[name] = value
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "no such file"),
        (lambda path: written(path, ball(7)[:, :20]), "24 x 20 x 24 voxels; expected a map of 24"),
        (lambda path: written(path, ball(7, 32)), "32 voxels of 5 A"),
        (lambda path: written(path, ball(7), 4.5), "24 voxels of 4.5 A"),
        (lambda path: written(path, 3 * ball(7)), "from 0 to 3; expected a mask"),
        (lambda path: written(path, ball(7) - 0.5), "from -0.5 to 0.5; expected a mask"),
        (lambda path: written(path, np.ones((24, 24, 24))), "an inside and an outside"),
        (lambda path: written(path, np.zeros((24, 24, 24))), "an inside and an outside"),
        (lambda path: written(path, np.where(ball(7) > 0.5, np.nan, 0.0)), "not numbers"),
        (lambda path: shifted(path, origin_x=-60.0, origin_y=-60.0, origin_z=-60.0), r"origin is \(-60, -60, -60\) A"),
        (lambda path: shifted(path, nxstart=5), r"origin is voxel \(5, 0, 0\)"),
    ],
)
def test_what_is_no_mask_of_these_images(tmp_path, make, message):
    path = make(tmp_path / "a.mrc")
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert str(error.value).startswith((f"--mask {path}", str(path)))


def test_what_is_ignored_is_taken_from_the_focus(tmp_path):
    focus, ignore = written(tmp_path / "f.mrc", ball(8)), written(tmp_path / "i.mrc", ball(5))
    both = read_regions(None, focus, ignore, BOX, PIXEL)
    assert both.solvent is None
    torch.testing.assert_close(both.moving, torch.from_numpy(ball(8) * (1 - ball(5))))
    alone = read_regions(None, None, ignore, BOX, PIXEL).moving
    assert float(alone[12, 12, 12]) == 0.0
    assert float(alone[0, 0, 0]) == 1.0
    with pytest.raises(InputError, match="leave nothing that can move"):
        read_regions(None, written(tmp_path / "small.mrc", ball(4)), focus, BOX, PIXEL)
    corner, centre = (
        written(tmp_path / "c.mrc", np.roll(ball(4), 12, axis=(0, 1, 2))),
        written(tmp_path / "d.mrc", ball(4)),
    )
    with pytest.raises(InputError, match="leave nothing that can move"):
        read_regions(corner, centre, None, BOX, PIXEL)


def test_a_run_keeps_them(tmp_path):
    assert not regions_of_run(tmp_path).given
    write_regions(tmp_path, Regions(torch.from_numpy(ball(8)), torch.from_numpy(ball(5))), PIXEL)
    kept = regions_of_run(tmp_path)
    torch.testing.assert_close(kept.solvent, torch.from_numpy(ball(8)))
    torch.testing.assert_close(kept.at(16).moving.sum() * (24 / 16) ** 3, kept.moving.sum(), rtol=0.05, atol=0)
