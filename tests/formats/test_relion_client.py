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
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.imaging.fsc import fourier_shell_correlation
from cryoformer.linear.regions import read_mask
from cryoformer.run.train import train
from toy_images import BOX, PIXEL, SMALL, simulate, write_particles

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


def test_refined_poses_give_it_the_map_that_we_make_of_them(project):
    arguments = ["--invert", "no", "--normalise", "no"]
    refined = project / "refined_by_us"
    assert main(["refine", str(project / "particles.star"), "--out", str(refined), *arguments]) == 0
    star = refined / "particles.star"
    assert main(["baseline", "homogeneous", str(star), "--out", str(project / "ours_refined"), *arguments]) == 0
    theirs = reconstructed(project, "refined_by_us/particles.star")
    with mrcfile.open(project / "ours_refined" / "map.mrc") as mrc:
        assert correlation(mrc.data, theirs, 5) > 0.99


@pytest.fixture(scope="module")
def run(project) -> Path:
    settings = SMALL | {"stages": [{"box": 24, "epochs": 1}], "refine_latents": False}
    train(ParticleInput(project / "particles.star"), project / "run", overrides=settings)
    return project / "run"


def columns(path: Path, table: str) -> dict[str, np.ndarray]:
    """Columns of a table of one of RELION's STAR files."""
    lines = path.read_text().split(f"data_{table}")[1].split("data_")[0].splitlines()
    names = [line.split()[0] for line in lines if line.startswith("_")]
    rows = [line.split() for line in lines if line.strip() and line.strip()[0] in "-0123456789"]
    return dict(zip(names, np.array(rows, dtype=np.float64).T, strict=True))


def test_half_maps_and_mask_in_postprocess(project, run):
    halves = [f"run/volumes/consensus_half{number}.mrc" for number in (1, 2)]
    mask = ["--mask", "run/volumes/occupancy.mrc", "--force_mask", "--angpix", str(PIXEL), "--randomize_at_A", "20"]
    # For its log, which it makes without ghostscript only where there is a folder.
    (project / "post").mkdir()
    relion(project, "postprocess", "--i", halves[0], "--i2", halves[1], "--o", "post", *mask, "--adhoc_bfac", "0")
    maps = []
    for half in halves:
        with mrcfile.open(project / half) as mrc:
            maps.append(mrc.data.copy())
    ours = fourier_shell_correlation(*maps)
    theirs = columns(project / "post.star", "fsc")["_rlnFourierShellCorrelationUnmaskedMaps"]
    # RELION counts the plane kx = 0 twice.
    np.testing.assert_allclose(ours[1 : BOX // 2 - 1], theirs[1 : BOX // 2 - 1], atol=0.02)
    with mrcfile.open(project / "post_masked.mrc") as post, mrcfile.open(run / "volumes" / "occupancy.mrc") as inside:
        assert not np.abs(post.data[inside.data == 0]).any()
        assert correlation(post.data, sum(maps) * inside.data, 5) > 0.99


def test_its_mask_is_one_of_ours(project, run):
    made = ["--ini_threshold", "0.5", "--extend_inimask", "2", "--width_soft_edge", "3", "--angpix", str(PIXEL)]
    relion(project, "mask_create", "--i", "run/volumes/consensus.mrc", "--o", "mask.mrc", *made)
    mask = read_mask(project / "mask.mrc", "--mask", BOX, PIXEL)
    assert 0.01 < float(mask.mean()) < 0.5
    assert ((mask > 0.1) & (mask < 0.9)).sum() > 50


def test_a_selection_of_a_run_is_a_stack_to_image_handler(project, run):
    """With the particles of a run that fit, every column kept."""
    out = str(project / "kept.star")
    assert main(["select", str(run), "--drop-outliers", "--random", "50", "--out", out]) == 0
    sampled = ["--angpix", str(PIXEL), "--force_header_angpix", str(PIXEL)]
    relion(project, "image_handler", "--i", "kept.star", "--o", "kept.mrcs", *sampled)
    kept = load_particles(project / "kept.star")
    with mrcfile.open(project / "kept.mrcs") as mrc:
        np.testing.assert_allclose(mrc.data, kept.images(np.arange(50)), rtol=1e-5)
