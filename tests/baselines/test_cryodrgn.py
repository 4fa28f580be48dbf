"""The adapter of cryoDRGN, with a stand-in for the program that writes files in its formats."""

import pickle
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from cryoformer.baselines.cryodrgn import epochs_done, last_epoch
from cryoformer.baselines.folder import fit_baseline, open_baseline
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings

from .conftest import COUNT

STAND_IN = """#!{python}
import pickle, sys, time
from pathlib import Path
import numpy as np
arguments = sys.argv[1:]
if arguments == ["--version"]:
    print("cryoDRGN 4.3.1")
    sys.exit()
value = lambda name: arguments[arguments.index(name) + 1]
if arguments[0] == "train_vae":
    out = Path(value("--outdir"))
    (out / "seen.txt").write_text(" ".join(arguments))
    if {fails}:
        sys.exit("RuntimeError: no dragon here")
    rotations, shifts = pickle.load(open(value("--poses"), "rb"))
    (out / "config.yaml").write_text("model_args: {{}}")
    for epoch in range(1, int(value("--num-epochs")) + 1):
        (out / f"weights.{{epoch}}.pkl").write_bytes(b"torch")
        with open(out / f"z.{{epoch}}.pkl", "wb") as file:
            z = np.full((len(rotations), int(value("--zdim"))), epoch, dtype=np.float32)
            pickle.dump(z, file)
            pickle.dump(-z, file)
        time.sleep({seconds})
elif arguments[0] == "eval_vol":
    import mrcfile
    assert Path(arguments[1]).exists() and Path(value("-c")).exists()
    for number, point in enumerate(np.loadtxt(value("--zfile"), ndmin=2), start=1):
        with mrcfile.new(Path(value("-o")) / f"vol_{{number:03d}}.mrc") as file:
            file.set_data(np.full((24, 24, 24), point[0], dtype=np.float32))
"""


def stand_in(folder: Path, seconds: float = 0.0, fails: bool = False) -> str:
    path = folder / "cryodrgn"
    path.write_text(STAND_IN.format(python=sys.executable, seconds=seconds, fails=fails))
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def fit(stack: Path, folder: Path, invert: str = "no", minutes: float | None = None, **settings: object):
    source = ParticleInput(stack / "particles.star")
    return fit_baseline(
        "cryodrgn", source, folder / "out", reading=ImageSettings(invert=invert), max_minutes=minutes, settings=settings
    )


def test_latents_of_the_last_epoch_and_volumes_at_them_come_back(stack: Path, tmp_path: Path) -> None:
    fit(stack, tmp_path, executable=stand_in(tmp_path), epochs=3, dimension=4, width=256)
    opened = open_baseline(tmp_path / "out")
    assert opened.latents.shape == (COUNT, 4)
    assert (opened.latents == 3).all()
    assert opened.facts["found"]["version"] == "cryoDRGN 4.3.1"
    points = np.arange(12 * 4, dtype=np.float32).reshape(12, 4)
    volumes = list(opened.latent_volumes(points))
    np.testing.assert_array_equal([volume[0, 0, 0] for volume in volumes], points[:, 0])
    assert not list(opened.path.glob("volumes-*"))


def test_it_is_told_the_papers_network_and_the_same_particles(stack: Path, tmp_path: Path) -> None:
    fit(stack, tmp_path, executable=stand_in(tmp_path), epochs=1, arguments=["--no-amp"])
    run = tmp_path / "out" / "cryodrgn"
    said = (run / "seen.txt").read_text()
    for part in ("--zdim 8", "--enc-dim 1024", "--dec-dim 1024", "--enc-layers 3", "--dec-layers 3", "--no-amp"):
        assert part in said
    assert "--uninvert-data" not in said
    ours, theirs = load_particles(stack / "particles.star"), load_particles(run / "images.star")
    pickled = load_particles(run / "images.star", poses=run / "poses.pkl", ctf=run / "ctf.pkl")
    for other in (theirs, pickled):
        np.testing.assert_allclose(other.rotations, ours.rotations, atol=1e-5)
    rows = np.array([0, 7, 399])
    np.testing.assert_array_equal(theirs.images(rows), ours.images(rows))


def test_dark_particles_are_not_inverted_again(stack: Path, tmp_path: Path) -> None:
    fit(stack, tmp_path, invert="yes", executable=stand_in(tmp_path), epochs=1)
    assert "--uninvert-data" in (tmp_path / "out" / "cryodrgn" / "seen.txt").read_text()


def test_time_that_is_up_leaves_the_last_whole_epoch(stack: Path, tmp_path: Path) -> None:
    found = fit(stack, tmp_path, minutes=0.05, executable=stand_in(tmp_path, seconds=0.5), epochs=1000)
    assert 1 <= found.facts["found"]["epochs"] < 50
    assert found.seconds < 30


def test_a_run_that_fails_says_what_the_program_said(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dragon here"):
        fit(stack, tmp_path, executable=stand_in(tmp_path, fails=True))
    assert not (tmp_path / "out" / "method.json").exists()


def test_an_epoch_cut_off_while_it_was_written_is_passed_over(tmp_path: Path) -> None:
    whole = pickle.dumps(np.ones((5, 2), dtype=np.float32))
    for epoch, content in ((1, whole), (2, whole[: len(whole) // 2])):
        (tmp_path / f"z.{epoch}.pkl").write_bytes(content)
        (tmp_path / f"weights.{epoch}.pkl").write_bytes(b"")
    assert last_epoch(tmp_path, 5, tmp_path / "log")[0] == 1
    with pytest.raises(InputError, match="those of 6 particles"):
        last_epoch(tmp_path, 6, tmp_path / "log")
    (tmp_path / "z.1.pkl").unlink()
    with pytest.raises(InputError, match="finished no epoch"):
        last_epoch(tmp_path, 5, tmp_path / "log")


def test_latents_that_would_run_code_are_not_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("caught",)

    (tmp_path / "z.1.pkl").write_bytes(pickle.dumps(Trap()))
    (tmp_path / "weights.1.pkl").write_bytes(b"")
    with pytest.raises(InputError, match="finished no epoch"):
        last_epoch(tmp_path, 5, tmp_path / "log")


def test_progress_is_read_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("(INFO) hello\n")
    assert epochs_done(log) == 0.0
    log.write_text("# [Train Epoch: 2/4] [500/2000 particles] gen loss=1\n# [Train Epoch: 3/4] [1000/2000 particles]\n")
    assert epochs_done(log) == 2.5
