"""``validate`` as a user calls it: what it writes, what it refuses, and that the command line reaches it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.validate.validate import VALIDATION_FILE, ValidateOptions, _half_run, validate
from cryoformer.validate.validated import opened
from toy_images import PIXEL, simulate

QUICK = ValidateOptions(nulls=3)


@pytest.fixture
def short_run(small_run: Callable[..., str], tmp_path: Path) -> Path:
    """A finished run of few steps."""
    small_run(tmp_path / "run", stages=[{"box": 16, "epochs": 2, "batch": 32}], full_box=False)
    return tmp_path / "run"


def truth_of(particles: Path) -> Path:
    """The truth folder of the fixture's stack."""
    made, folder = simulate(300, noise=0.7, seed=3), particles.parent / "truth"
    for number, t in enumerate((0.1, 0.5, 0.9)):
        write_mrc_volume(folder / "gt" / f"state_{number:02d}.mrc", made.density(t).numpy(), PIXEL)
    np.savez(folder / "truth.npz", t=made.t, state_t=np.array([0.1, 0.5, 0.9]))
    return folder


def test_run_gets_a_flat_file_with_a_verdict_and_a_sentence_per_test(
    short_run: Path,
    particle_file: Path,
) -> None:
    found = validate(short_run, QUICK)
    written = json.loads((short_run / VALIDATION_FILE).read_text())
    assert written == found
    assert {"null_of_structure", "null_of_motion", "split_images"} <= set(written)
    for test in (value for value in written.values() if isinstance(value, dict)):
        assert test["verdict"] in {"holds", "fails", "not run"}
        assert test["sentence"].endswith(".")
        assert not any(isinstance(value, dict) for value in test.values())
    assert written["null_of_structure"]["verdict"] == "holds"
    assert written["null_of_motion"]["verdict"] == "holds"
    # A later call adds to the file what it tested, and leaves the rest.
    (short_run / VALIDATION_FILE).write_text(json.dumps(written | {"halves": {"verdict": "holds", "sentence": "Yes."}}))
    again = validate(short_run, ValidateOptions(nulls=3, truth=truth_of(particle_file)))
    assert again["halves"]["verdict"] == "holds"
    assert 0.0 < again["calibration"]["coverage_68"] <= 1.0


def test_particles_alone_are_tested_from_the_command_line(
    particle_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["validate", str(particle_file), "--nulls", "3"]) == 0
    printed = capsys.readouterr().out
    assert "null_of_structure: holds." in printed
    assert "null_of_motion: holds." in printed
    assert not list(particle_file.parent.glob("*.json"))


@pytest.mark.slow
def test_halves_are_trained_compared_and_reused(small_run: Callable[..., str], tmp_path: Path) -> None:
    short_run = tmp_path / "run"
    small_run(short_run, stages=[{"box": 16, "epochs": 12, "batch": 16}], full_box=False)
    options = ValidateOptions(nulls=3, halves=True, preset="same")
    first = validate(short_run, options)["halves"]
    rows = [np.load(short_run / "validation" / f"half{number}.npy") for number in (1, 2)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(300))
    assert len(first["resolution_flexible_angstrom"]) == len(first["state_shares"])
    assert first["motion_correlation"] > 0.5
    finished = (short_run / "validation" / "half1" / "latents.npz").stat().st_mtime_ns
    assert validate(short_run, options)["halves"] == first
    assert (short_run / "validation" / "half1" / "latents.npz").stat().st_mtime_ns == finished


def test_runs_on_halves_read_images_as_the_run_did(
    small_run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = {"invert": "no", "normalise": False, "ctf_applied": "none", "seed": 5, "memory_gib": 1.0}
    small_run(tmp_path / "run", stages=[{"box": 16, "epochs": 1, "batch": 32}], full_box=False, **reading)
    trained = []
    monkeypatch.setattr("cryoformer.validate.validate.train", lambda *_, overrides, **__: trained.append(overrides))
    with opened(tmp_path / "run", ParticleInput(tmp_path / "run"), {}) as subject:
        assert subject.run is not None
        for options in (QUICK, replace(QUICK, preset="same")):
            with pytest.raises(InputError):  # nothing was trained
                _half_run(subject, np.arange(150), 1, subject.run, options)
    for settings in trained:
        assert {name: settings[name] for name in reading} == reading
    assert trained[0]["stages"] != trained[1]["stages"]


def test_network_trained_on_still_particles_gains_less(short_run: Path) -> None:
    tests = validate(short_run, ValidateOptions(nulls=3, full=True, preset="same"))
    test = tests["null_of_network"]
    assert tests["parts"]["verdict"] == tests["null_of_parts"]["verdict"] == "not run"
    assert test["held_out_gain"] > test["held_out_gain_null"]
    assert test["conditioning"] > test["conditioning_null"]
    assert (short_run / "validation" / "null" / "latents.npz").exists()


def test_wrong_requests_are_refused(particle_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 or more"):
        validate(particle_file, ValidateOptions(nulls=2))
    with pytest.raises(InputError, match="finished run"):
        validate(particle_file, ValidateOptions(halves=True))
    with pytest.raises(InputError):
        validate(tmp_path / "none.star", QUICK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not the folder of a run"):
        validate(tmp_path / "empty", QUICK)


def test_damaged_file_and_moved_particles_are_named(short_run: Path, tmp_path: Path) -> None:
    (short_run / VALIDATION_FILE).write_text("{")
    with pytest.raises(InputError, match="delete it"):
        validate(short_run, QUICK)
    (short_run / VALIDATION_FILE).unlink()
    config = short_run / "config.yaml"
    config.write_text(config.read_text().replace("particles.star", "gone.star"))
    with pytest.raises(InputError, match="its particles are gone"):
        validate(short_run, QUICK)
