"""The command line: what it parses, what it calls, and what a user sees when something is wrong."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from cryoformer import __version__
from cryoformer.cli import main
from cryoformer.cli.arguments import parse_settings
from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume
from cryoformer.formats.particle_input import ParticleInput

COMMANDS = ["simulate", "train", "volumes", "evaluate", "analyze", "demo"]


def stand_in(monkeypatch, module, **members):
    """Put a stand-in for ``module`` where the command imports it from."""
    fake = ModuleType(module)
    for name, member in members.items():
        setattr(fake, name, member)
    monkeypatch.setitem(sys.modules, module, fake)


def recorder(result=None):
    """A function that remembers what it was called with."""

    def call(*positional, **named):
        call.positional, call.named = positional, named
        if isinstance(result, BaseException):
            raise result
        return result

    return call


def run_process(*arguments):
    return subprocess.run([sys.executable, "-m", "cryoformer", *arguments], capture_output=True, text=True, check=False)


def test_version_is_quick_and_light():
    took = []
    for _ in range(3):
        start = time.perf_counter()
        done = run_process("--version")
        took.append(time.perf_counter() - start)
    assert done.stdout == f"cryoformer {__version__}\n"
    assert min(took) < 0.5
    code = "import sys; from cryoformer.cli import main; main(['--version']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")


def test_help_lists_all_commands_without_torch():
    code = "import sys; sys.argv[0] = 'x'\nfrom cryoformer.cli import main\ntry: main(['--help'])\n"
    code += "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert command in done.stdout
    assert done.stdout.endswith("0 False\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "--" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["train"], ["evaluate", "run"], ["train", "a.star", "--oot", "x"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path):
    """A real error through the real command: the particles are looked at before anything else happens."""
    done = run_process("train", str(tmp_path / "no.star"), "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr == (
        f"cryoformer: error: {tmp_path}/no.star: no such file; expected a RELION particle STAR file\n"
    )
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m cryoformer train --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_a_message_of_several_lines_becomes_one(monkeypatch, capsys):
    stand_in(monkeypatch, "cryoformer.demo", run_demo=recorder(InputError("first\n  second")))
    assert main(["demo", "--out", "x"]) == 2
    assert capsys.readouterr().err == "cryoformer: error: first second\n"


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch):
    stand_in(monkeypatch, "cryoformer.demo", run_demo=recorder(ValueError("a bug")))
    with pytest.raises(ValueError, match="a bug"):
        main(["demo", "--out", "x"])


def test_interrupt_says_how_to_go_on(monkeypatch, capsys):
    stand_in(monkeypatch, "cryoformer.run.train", train=recorder(KeyboardInterrupt()))
    for arguments in (["a b.star", "--out", "run"], ["a b.star", "--out", "run", "--resume"]):
        assert main(["train", *arguments]) == 130
        assert "go on with: cryoformer train 'a b.star' --out run --resume\n" in capsys.readouterr().err
    stand_in(monkeypatch, "cryoformer.demo", run_demo=recorder(KeyboardInterrupt()))
    assert main(["demo", "--out", "x"]) == 130
    assert "start again with: cryoformer demo --out x" in capsys.readouterr().err


def test_abinitio_reads_particles_as_it_is_told(monkeypatch):
    call = recorder("found")
    stand_in(monkeypatch, "cryoformer.poses.abinitio_run", find_poses=call)
    assert main(["abinitio", "a.star", "--out", "x", "--no-ctf"]) == 0
    assert call.positional[0].no_ctf


def test_simulate_passes_flags_over_recipe(monkeypatch, tmp_path, capsys):
    call = recorder(tmp_path / "sim")
    stand_in(monkeypatch, "cryoformer.simulate.stack", simulate=call)
    flags = ["--images", "10", "--box", "32", "--pixel-size", "3.5", "--snr", "0.1", "--set", "states=3"]
    assert main(["simulate", "a.cif", "b.cif", "--out", "sim", *flags]) == 0
    (config,) = call.positional
    assert [str(model) for model in config.models] == ["a.cif", "b.cif"]
    assert (config.images, config.box, config.pixel_size_angstrom, config.snr) == (10, 32, 3.5, 0.1)
    assert config.states == 3
    assert capsys.readouterr().out == f"{tmp_path / 'sim'}\n"

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("models: [c.cif]\nimages: 7\nbox: 16\npixel_size_angstrom: 4\nsnr: 1\n")
    assert main(["simulate", "--out", "sim", "--recipe", str(recipe), "--images", "8"]) == 0
    (config,) = call.positional
    assert (config.images, config.box, [str(model) for model in config.models]) == (8, 16, ["c.cif"])


def test_simulate_names_what_is_missing(capsys):
    assert main(["simulate", "a.cif", "--out", "sim", "--images", "10"]) == 2
    message = capsys.readouterr().err
    assert "box: is required" in message
    assert message.count("\n") == 1


def test_train_passes_flags_settings_and_options(monkeypatch):
    call = recorder("run")
    stand_in(monkeypatch, "cryoformer.run.train", train=call)
    options = ["--preset", "quick", "--max-minutes", "3", "--seed", "5", "--invert", "yes", "--set", "model.queries=32"]
    rows = [
        "--datadir",
        "images",
        "--poses",
        "p.pkl",
        "--ctf",
        "c.pkl",
        "--ind",
        "i.npy",
        "--random",
        "7",
        "--half",
        "2",
    ]
    assert main(["train", "a.star", "--out", "run", *rows, *options]) == 0
    source, out = call.positional
    assert source == ParticleInput(*map(Path, ("a.star", "images", "p.pkl", "c.pkl", "i.npy")), 7, 2)
    assert str(out) == "run"
    assert call.named["overrides"] == {"model": {"queries": 32}, "seed": 5, "invert": "yes"}
    assert (call.named["preset"], call.named["max_minutes"], call.named["resume"]) == ("quick", 3.0, False)
    assert main(["train", "a.star", "--out", "run", "--resume"]) == 0
    assert call.named["resume"] is True
    assert call.named["overrides"] == {}


def test_analyze_writes_the_report(monkeypatch, capsys, tmp_path):
    call = recorder("run/report.html")
    run = fake_run()
    stand_in(monkeypatch, "cryoformer.run.run_folder", open_run=lambda path: run)
    stand_in(monkeypatch, "cryoformer.explore.analyze", analyze=call)
    stand_in(monkeypatch, "cryoformer.explore.findings", AnalysisOptions=lambda *options: options)
    np.save(tmp_path / "z.npy", np.ones((2, 3)))
    options = ["--truth", "sim", "--clusters", "4", "--between", "3", "7", "--points", str(tmp_path / "z.npy")]
    monkeypatch.setattr("cryoformer.cli.analyze.need", lambda *_: None)
    more = ["--umap", "--device", "cpu", "--all-attention", "-o", "mine"]
    assert main(["analyze", "run", *options, *more]) == 0
    assert capsys.readouterr().out == "run/report.html\n"
    finished, (truth, clusters, umap, points, between, *elsewhere), device = call.positional
    assert elsewhere == [True, Path("mine")]
    assert finished is run
    assert (str(truth), clusters, umap, between, device) == ("sim", 4, True, (3, 7), "cpu")
    assert points.shape == (2, 3)
    np.save(tmp_path / "z.npy", np.ones((2, 5)))
    assert main(["analyze", "run", "--points", str(tmp_path / "z.npy")]) == 2
    assert "--points" in capsys.readouterr().err


def fake_run():
    latents = np.zeros((20, 3), np.float32)
    return SimpleNamespace(
        latents=latents,
        pixel_size_angstrom=2.5,
        particle_volumes=lambda indices: (np.full((4, 4, 4), index, np.float32) for index in indices),
        latent_volumes=lambda points: (np.full((4, 4, 4), point.sum(), np.float32) for point in points),
    )


@pytest.fixture
def finished_run(monkeypatch):
    stand_in(monkeypatch, "cryoformer.run.run_folder", open_run=lambda path: fake_run())


@pytest.mark.usefixtures("finished_run")
def test_volumes_of_particles(tmp_path, capsys):
    assert main(["volumes", "run", "--particles", "3,17", "--out", str(tmp_path / "v")]) == 0
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == ["particle_000003.mrc", "particle_000017.mrc"]
    volume, pixel_size = read_mrc_volume(tmp_path / "v" / "particle_000017.mrc")
    assert volume.max() == 17
    assert pixel_size == 2.5
    assert "particle_000003.mrc" in capsys.readouterr().out


@pytest.mark.usefixtures("finished_run")
def test_volumes_of_latents(tmp_path):
    np.save(tmp_path / "z.npy", np.array([[1, 2, 3], [4, 5, 6]]))
    assert main(["volumes", "run", "--latents", str(tmp_path / "z.npy"), "--out", str(tmp_path / "v")]) == 0
    assert read_mrc_volume(tmp_path / "v" / "latent_0001.mrc")[0].max() == 15


@pytest.mark.usefixtures("finished_run")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --particles 3,17,42 or --latents"),
        (["--particles", "1", "--latents", "z.npy"], "give either"),
        (["--particles", "1,x"], "expected whole numbers with commas between"),
        (["--particles", "1,20"], "there is no particle 20; the run has 20, counted from 0"),
        (["--latents", "missing.npy"], "--latents missing.npy: cannot be read"),
    ],
)
def test_volumes_errors(arguments, message, tmp_path, capsys):
    assert main(["volumes", "run", "--out", str(tmp_path / "v"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "v").exists()


@pytest.mark.usefixtures("finished_run")
@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 5)), "with the run's 3 coordinates"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), "row 2 holds NaN"),
        (np.array(["a", "b", "c"]), "cannot be read as a table of numbers"),
    ],
)
def test_latents_that_cannot_be_used(points, message, tmp_path, capsys):
    np.save(tmp_path / "z.npy", points)
    assert main(["volumes", "run", "--latents", str(tmp_path / "z.npy"), "--out", str(tmp_path / "v")]) == 2
    assert message in capsys.readouterr().err


class RunsOnLoad:
    """What a stranger's pickle can do: calls a function while it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.usefixtures("finished_run")
def test_latents_never_run_code(tmp_path):
    np.save(tmp_path / "z.npy", np.array([RunsOnLoad(tmp_path / "ran")]), allow_pickle=True)
    assert main(["volumes", "run", "--latents", str(tmp_path / "z.npy"), "--out", str(tmp_path / "v")]) == 2
    assert not (tmp_path / "ran").exists()


def test_evaluate_prints_json(monkeypatch, capsys):
    scores = {"fsc_auc": np.float32(0.5), "curve": np.array([1.0, 0.5]), "resolution": 7.0}
    call = recorder(scores)
    stand_in(monkeypatch, "cryoformer.assess.evaluate", evaluate=call)
    assert main(["evaluate", "run", "--truth", "sim"]) == 0
    assert json.loads(capsys.readouterr().out) == {"fsc_auc": 0.5, "curve": [1.0, 0.5], "resolution": 7.0}
    assert [str(path) for path in call.positional] == ["run", "sim"]


def test_settings_are_read_as_yaml():
    settings = ["model.queries=32", "seed=1", "model.encoder=mlp", "schedule.boxes=[32, 64]", "rate=1e-3", "note="]
    assert parse_settings(settings) == {
        "model": {"queries": 32, "encoder": "mlp"},
        "seed": 1,
        "schedule": {"boxes": [32, 64]},
        "rate": 1e-3,
        "note": None,
    }


@pytest.mark.parametrize("setting", ["queries", "=3", ".a=3", "a..b=3", "a=[1", ""])
def test_settings_that_make_no_sense(setting):
    with pytest.raises(InputError, match="--set"):
        parse_settings([setting])


def test_a_setting_cannot_be_a_group_as_well():
    with pytest.raises(InputError, match="set to a value and to a group"):
        parse_settings(["a=1", "a.b=2"])
