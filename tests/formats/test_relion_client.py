"""RELION itself reads what is written here, and makes of it what is made of it here (skipped where it is absent)."""

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoformer.cli import main
from cryoformer.formats import load_particles
from cryoformer.formats.load import open_particle_file
from toy_images import BOX, simulate, write_particles

pytestmark = pytest.mark.skipif(
    shutil.which("relion_reconstruct") is None, reason="RELION is not installed (Debian and Ubuntu: apt install relion)"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project folder with 400 images of a still molecule."""
    folder = tmp_path_factory.mktemp("project")
    write_particles(simulate(400, noise=0.7, seed=3, moves=False), folder)
    return folder


def relion(project: Path, program: str, *arguments: str) -> str:
    """What a program of RELION says; it is run in the project's folder, as RELION's are."""
    done = subprocess.run(
        [f"relion_{program}", *arguments], cwd=project, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def reconstructed(project: Path, star: str) -> np.ndarray:
    relion(project, "reconstruct", "--i", star, "--o", "relion_map.mrc", "--ctf")
    with mrcfile.open(project / "relion_map.mrc") as mrc:
        assert [float(mrc.header.origin[axis]) for axis in "xyz"] == [0, 0, 0]
        return mrc.data.copy()


def correlation(one: np.ndarray, other: np.ndarray, shells: int) -> float:
    """Over all coefficients of shells 1 to this."""
    first, second = np.fft.fftn(one), np.fft.fftn(other)
    k = np.fft.fftfreq(BOX) * BOX
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    inside = (radius > 0.5) & (radius < shells + 0.5)
    cross = (first * second.conj())[inside].sum().real
    return float(cross / np.sqrt((abs(first) ** 2)[inside].sum() * (abs(second) ** 2)[inside].sum()))


def test_its_map_is_ours(project):
    """Ours is filtered by the agreement of its halves, RELION's is not: compared where that is nearly 1."""
    arguments = ["--out", str(project / "ours"), "--invert", "no", "--normalise", "no"]
    assert main(["baseline", "homogeneous", str(project / "particles.star"), *arguments]) == 0
    theirs = reconstructed(project, "particles.star")
    with mrcfile.open(project / "ours" / "map.mrc") as mrc:
        assert [float(mrc.header.origin[axis]) for axis in "xyz"] == [0, 0, 0]
        assert correlation(mrc.data, theirs, 5) > 0.99


def test_selections_are_joined_again(project):
    for half in "12":
        out = str(project / f"half{half}.star")
        assert main(["select", str(project / "particles.star"), "--half", half, "--out", out]) == 0
    relion(project, "star_handler", "--combine", "--i", "half1.star half2.star", "--o", "joined.star")
    joined, whole = (load_particles(project / name) for name in ("joined.star", "particles.star"))
    order = np.argsort(joined.references.index_of_row)
    np.testing.assert_array_equal(joined.references.index_of_row[order], np.arange(len(whole)))
    np.testing.assert_allclose(joined.rotations[order], whole.rotations, atol=1e-5)


def test_downsampled_images_are_those_of_image_handler(project, monkeypatch):
    monkeypatch.chdir(project)
    assert main(["downsample", "particles.star", "--box", str(BOX // 2), "--out", "small"]) == 0
    handler = ["--angpix", "5", "--rescale_angpix", "10", "--force_header_angpix", "10"]
    relion(project, "image_handler", "--i", "particles.mrcs", "--o", "theirs.mrcs", *handler)
    with mrcfile.open("small/particles.mrcs") as ours, mrcfile.open("theirs.mrcs") as theirs:
        one, other = np.fft.fft2(ours.data), np.fft.fft2(theirs.data)
        k = np.abs(np.fft.fftfreq(BOX // 2) * (BOX // 2))
        below = (k[:, None] < BOX // 4) & (k < BOX // 4)
        assert np.abs(one - other)[:, below].max() < 1e-4 * np.abs(other)[:, below].std()
        assert ours.data.mean() == pytest.approx(float(theirs.data.mean()), rel=1e-4)
    assert "12 x 12" in relion(project, "image_handler", "--i", "small/particles.star", "--stats")
    assert reconstructed(project, "small/particles.star").shape == (BOX // 2,) * 3


@pytest.mark.parametrize("way", ["convert", "posed"])
def test_files_written_anew_give_the_same_map(project, way):
    before = reconstructed(project, "particles.star")
    if way == "convert":
        pytest.importorskip("cryosparc")
        assert main(["convert", str(project / "particles.star"), str(project / "a.cs"), "--invert", "no"]) == 0
        assert main(["convert", str(project / "a.cs"), str(project / "again.star")]) == 0
    else:
        file = open_particle_file(project / "particles.star")
        file.write_posed(file.read(), project / "refined").replace(project / "again.star")
    assert correlation(reconstructed(project, "again.star"), before, BOX // 2 - 2) > 0.999
