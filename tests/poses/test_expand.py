"""Symmetry expansion: rows repeated at views that are alike, every column kept, copies of an image in one half."""

from pathlib import Path

import numpy as np
import pytest
import starfile

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.poses.expand import expand
from cryoformer.poses.symmetry import rotation_group


def test_every_particle_comes_at_every_view(particle_file: Path, tmp_path: Path) -> None:
    assert "4 views" in expand(particle_file, tmp_path / "out", "D2")
    before, after = load_particles(particle_file), load_particles(tmp_path / "out" / "particles.star")
    assert len(after) == 4 * len(before)
    group = rotation_group("D2").numpy()
    for number in range(4):
        np.testing.assert_allclose(after.rotations[number::4], before.rotations @ group[number], atol=1e-5)
        np.testing.assert_allclose(after.shifts_angstrom[number::4], before.shifts_angstrom)
    one, other = (
        starfile.read(path, always_dict=True)["particles"]
        for path in (particle_file, tmp_path / "out" / "particles.star")
    )
    for column in one.columns:
        if "Angle" not in column and "ImageName" not in column:
            np.testing.assert_array_equal(np.repeat(one[column], 4), other[column])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["particles.star"]


def test_copies_of_an_image_stay_in_one_half(particle_file: Path, tmp_path: Path) -> None:
    tables = starfile.read(particle_file, always_dict=True)
    tables["particles"] = tables["particles"].drop(columns=["rlnRandomSubset"], errors="ignore")
    (tmp_path / "particles.mrcs").symlink_to(particle_file.with_name("particles.mrcs"))
    starfile.write(tables, tmp_path / "bare.star")
    expand(tmp_path / "bare.star", tmp_path / "out", "C3")
    particles = load_particles(tmp_path / "out" / "particles.star")
    images = prepare_images(particles, tmp_path / "cache", ImageSettings(invert="no", device="cpu"))
    halves = images.halves.view(-1, 3)
    assert (halves == halves[:, :1]).all()
    assert 0 < int(halves[:, 0].sum()) < len(halves)


def test_what_cannot_be_expanded_is_refused(particle_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(InputError, match="nothing to expand"):
        expand(particle_file, tmp_path / "out", "C1")
    expand(particle_file, tmp_path / "out", "C2")
    assert main(["expand", str(particle_file), "--out", str(tmp_path / "out"), "--symmetry", "C2"]) == 2
    assert "exists" in capsys.readouterr().err
