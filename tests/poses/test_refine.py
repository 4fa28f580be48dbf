"""Rough poses refined: they get better, a stopped refinement goes on, and files say what was done."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.load import open_particle_file
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings
from cryoformer.linear.consensus import Consensus
from cryoformer.poses import rounds
from cryoformer.poses.posterior import PosePrior
from cryoformer.poses.refine import refine
from cryoformer.progress import RunLog
from cryoformer.run.train import train
from toy_images import simulate, write_particles

TURN_DEGREES, SHIFT_ANGSTROM = 6.0, 6.0


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles that do not move, at their true poses."""
    return write_particles(simulate(400, noise=0.5, moves=False), tmp_path_factory.mktemp("exact"))


@pytest.fixture(scope="module")
def rough(exact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same at poses that are off."""
    particles, generator = load_particles(exact), np.random.default_rng(2)
    count = len(particles)
    turns = Rotation.from_rotvec(np.radians(TURN_DEGREES) * generator.normal(size=(count, 3))).as_matrix()
    shifts = SHIFT_ANGSTROM * generator.normal(size=(count, 2))
    folder = tmp_path_factory.mktemp("rough")
    moved = replace(particles, rotations=turns @ particles.rotations, shifts_angstrom=shifts)
    return open_particle_file(moved.source).write_posed(moved, folder)


def errors(path: Path, truth: Path) -> tuple[float, float]:
    """Rms of the angle in degrees and of the shift in Angstrom between the poses of two files."""
    one, other = load_particles(path), load_particles(truth)
    angles = Rotation.from_matrix(one.rotations @ np.swapaxes(other.rotations, 1, 2)).magnitude()
    shifts = np.linalg.norm(one.shifts_angstrom - other.shifts_angstrom, axis=1)
    return float(np.degrees(np.sqrt(np.mean(angles**2)))), float(np.sqrt(np.mean(shifts**2)))


@pytest.fixture(scope="module")
def refined(rough: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refined") / "out"
    refine(ParticleInput(rough), folder, ImageSettings(invert="no"))
    return folder


def test_poses_get_better_and_the_record_says_how_far_off_they_were(refined: Path, rough: Path, exact: Path) -> None:
    before, after = errors(rough, exact), errors(refined / "particles.star", exact)
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.25 * before[1]
    record = json.loads((refined / "refinement.json").read_text())
    assert record["given_turn_degrees"] == pytest.approx(TURN_DEGREES, rel=0.25)
    assert record["given_shift_angstrom"] == pytest.approx(SHIFT_ANGSTROM, rel=0.25)
    # The density of so few images is itself uncertain, which the posterior of an image does not know.
    assert 0.4 < record["unknown_shift_angstrom"] / (after[1] / np.sqrt(2)) < 1.1
    with np.load(refined / "poses.npz") as found:
        turned = Rotation.from_rotvec(found["turn_radians"]).as_matrix() @ load_particles(rough).rotations
        assert found["covariance"].shape == (400, 5, 5)
    np.testing.assert_allclose(turned, load_particles(refined / "particles.star").rotations, atol=1e-4)
    assert sorted(path.name for path in refined.iterdir()) == [
        "log.txt",
        "particles.star",
        "poses.npz",
        "refinement.json",
    ]


def test_poses_that_are_right_stay_although_the_particles_move(particle_file: Path, tmp_path: Path) -> None:
    said = refine(ParticleInput(particle_file), tmp_path / "out", ImageSettings(invert="no"))
    assert "stay as they were" in said
    np.testing.assert_allclose(errors(tmp_path / "out" / "particles.star", particle_file), 0, atol=1e-4)


def test_a_density_that_spoils_poses_is_given_up(
    rough: Path, exact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rounds._Round._posteriors

    def spoil(self: rounds._Round, consensus: Consensus, references: Callable[..., Any]) -> rounds.Poses:
        found = real(self, consensus, rounds.still_references)
        if references is rounds.still_references:
            return found
        prior = PosePrior(3 * found.prior.turn, found.prior.shift)
        wild = 0.3 * torch.randn(found.mean.shape, generator=torch.Generator().manual_seed(1))
        return replace(found, mean=found.mean + wild, prior=prior)

    monkeypatch.setattr(rounds._Round, "_posteriors", spoil)
    refine(ParticleInput(rough), tmp_path / "out", ImageSettings(invert="no"))
    assert errors(tmp_path / "out" / "particles.star", exact)[0] < 0.5 * errors(rough, exact)[0]
    record = json.loads((tmp_path / "out" / "refinement.json").read_text())
    assert "whose poses stay" in record["rounds"][-1]["said"]


def test_particles_of_a_point_group_are_compared_with_still_densities(rough: Path, tmp_path: Path) -> None:
    refine(ParticleInput(rough), tmp_path / "out", ImageSettings(invert="no"), symmetry="C2")
    record = json.loads((tmp_path / "out" / "refinement.json").read_text())
    assert len(record["rounds"]) > 1
    assert not any(each["moving"] for each in record["rounds"])


def test_half_maps_at_poses_from_one_map_say_nothing_of_these(exact: Path, tmp_path: Path) -> None:
    settings, particles = ImageSettings(invert="no"), load_particles(exact)
    for independent in (True, False):
        path, asked = tmp_path / f"{independent}.safetensors", iter([False, False, True])
        with RunLog(None) as log:
            found = rounds.refine_poses(
                particles, settings, tmp_path, path, log, over=lambda asked=asked: next(asked), independent=independent
            )
        assert (found.given_agreement == rounds.UNSEEN) == (not independent)
        # True poses are as good as what is found from them, where half maps can say so.
        assert ("no better" in found.rounds[1]["said"]) == independent


def test_a_stopped_refinement_goes_on_to_the_same_end(
    refined: Path, rough: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run, begun = tmp_path / "out", rounds._Round.run, []

    def stop_in_the_second(self: object) -> object:
        begun.append(1)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return run(self)  # type: ignore[arg-type]

    monkeypatch.setattr(rounds._Round, "run", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        refine(ParticleInput(rough), out, ImageSettings(invert="no"))
    assert not (out / "particles.star").exists()
    refine(ParticleInput(rough), out, ImageSettings(invert="no"))
    # But for the last bit, which depends on where arrays lie in memory.
    one, other = (load_particles(folder / "particles.star") for folder in (refined, out))
    np.testing.assert_allclose(one.rotations, other.rotations, atol=1e-6)
    np.testing.assert_allclose(one.shifts_angstrom, other.shifts_angstrom, atol=1e-4)
    before = len(begun)
    assert "nothing to do" in refine(ParticleInput(rough), out, ImageSettings(invert="no"))
    assert len(begun) == before


def test_what_does_not_fit_the_memory_is_read_from_disk_to_the_same_end(
    refined: Path, rough: Path, tmp_path: Path
) -> None:
    refine(ParticleInput(rough), tmp_path / "out", ImageSettings(invert="no", memory_gib=1e-6))
    one, other = (load_particles(folder / "particles.star") for folder in (refined, tmp_path / "out"))
    np.testing.assert_allclose(one.rotations, other.rotations, atol=1e-3)


def test_another_folder_is_asked_for(rough: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="choose another"):
        refine(ParticleInput(rough), tmp_path, ImageSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refine", str(tmp_path / "none.star"), "--out", str(tmp_path / "out")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_training_warns_of_rough_poses_and_not_of_others(
    rough: Path, exact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = {
        "subspace": {"box": 16, "dimension": 2, "iterations": 2},
        "stages": [{"box": 16, "epochs": 1, "batch": 64}],
        "model": {"queries": 8, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2},
        "latent_states": 8,
        "parts": 0,
        "full_box": False,
        "invert": "no",
    }
    logging.getLogger("cryoformer").addHandler(caplog.handler)
    try:
        for particles, said in ((rough, True), (exact, False)):
            caplog.clear()
            out = tmp_path / str(said)
            train(ParticleInput(particles), out, overrides=short)
            assert ("run cryoformer refine" in caplog.text) == said
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            assert [line["are_off"] for line in lines if line["stage"] == "poses"] == [said]
    finally:
        logging.getLogger("cryoformer").removeHandler(caplog.handler)


@pytest.mark.parametrize("command", [["refine"], ["baseline", "homogeneous"]])
def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    command: list[str], rough: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, str(rough), "--out", str(tmp_path / "out"), "--device", "nowhere"]) == 2
    assert "--device nowhere: cannot be used" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
