"""The orientation encoder: what it learns of given poses, what its poses do to a prediction, and a run with it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryoformer.checkpoint import load_tensors
from cryoformer.decode.density_model import ConformationModel
from cryoformer.errors import InputError
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.imaging.fourier import shift_phases
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.encoders import OrientationEncoder
from cryoformer.model.model_config import ModelConfig
from cryoformer.run.run_folder import RunPaths, open_run
from cryoformer.run.train import train
from cryoformer.training import orientation
from cryoformer.training.encoder_inputs import ImageInputs
from cryoformer.training.orientation import ReadPoses, pretrain, read_poses
from cryoformer.training.train_config import load_config
from toy_images import simulate

STILL = simulate(100, noise=0.1, seed=5, moves=False).images.crop(12)
MODEL = {"queries": 4, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2, "encoder_width": 16}
SETTINGS: dict[str, Any] = {
    "model": MODEL | {"orientation": "encoder", "image_box": 12},
    "stages": [{"box": 12, "epochs": 1, "batch": 32}],
    "subspace": {"box": 12, "dimension": 2},
    "full_box": False,
    "latent_states": 8,
    "invert": "no",
}


def test_given_poses_are_learnt_until_that_stops() -> None:
    torch.manual_seed(0)
    encoder, inputs = OrientationEncoder(144, layers=2, width=128), ImageInputs(STILL, 12)
    before = (read_poses(encoder, inputs).rotations - STILL.rotations).square().sum(dim=(1, 2)).mean()
    epochs, error = pretrain(encoder, inputs, STILL, seed=0)
    found = read_poses(encoder, inputs)
    after = (found.rotations - STILL.rotations).square().sum(dim=(1, 2)).mean()
    assert epochs > orientation.PATIENCE
    assert after < 0.3 * before
    assert error == pytest.approx(float(after), abs=0.3)
    assert found.shifts.abs().max() < STILL.pixel_size_angstrom


FALLING = [float(error) for error in range(20, 0, -1)]


@pytest.mark.parametrize(
    ("errors", "done"), [([5.0] * 10, False), ([5.0] * 11, True), (FALLING, False), ([1.0] + [0.995] * 10, True)]
)
def test_converged_is_no_gain_for_some_epochs(errors: list[float], done: bool) -> None:
    assert orientation._converged(errors) == done


def test_predictions_are_those_at_the_poses_that_are_read() -> None:
    torch.manual_seed(0)
    config = ModelConfig(**MODEL, encoder="mlp", orientation="encoder", image_box=12)
    network = CryoFormer(config, box=12)
    assert network.orientation is not None
    torch.nn.init.normal_(network.orientation.network.last.weight, std=0.3)  # as if trained
    model = ConformationModel(network, torch.zeros(12, 12, 12), torch.ones(12, 12, 12), STILL.pixel_size_angstrom)
    images, points, inputs = (
        STILL.take(torch.arange(5)),
        model.points(12),
        ImageInputs(STILL, 12).inputs(torch.arange(5)),
    )
    rotations, shifts = network.orientation(inputs)
    assert shifts.abs().min() > 1e-3
    seen = model.predict(points, inputs, images)
    (seen - images.coefficients).abs().square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.orientation.parameters())

    network.orientation = None
    turned = model.predict(points, inputs, replace(images, rotations=rotations.detach()))
    torch.testing.assert_close(seen, turned * shift_phases(shifts, 12, images.pixel_size_angstrom))
    # Images at these poses have the shift taken out.
    posed = ReadPoses(rotations.detach(), shifts.detach()).applied(replace(images, coefficients=seen.detach()))
    torch.testing.assert_close(posed.coefficients, turned.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(posed.rotations, rotations.detach())


def test_a_run_reads_poses_of_its_own(particle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orientation, "MOST_EPOCHS", 3)
    train(ParticleInput(particle_file), tmp_path / "run", preset="paper", overrides=SETTINGS)
    paths, run = RunPaths(tmp_path / "run"), open_run(tmp_path / "run")
    (facts,) = [line for line in run.metrics if line["stage"] == "orientation"]
    assert facts["epochs"] == 3
    read = ReadPoses(**load_tensors(paths.checkpoint("poses"))[0])
    with np.load(paths.poses) as poses:
        np.testing.assert_allclose(poses["rotations"], read.rotations, atol=1e-5)
        assert poses["shifts_angstrom"].shape == (300, 2)
    assert run.model.network.orientation is None
    assert np.isfinite(next(run.particle_volumes([0]))).all()


@pytest.mark.parametrize(
    ("preset", "overrides", "said"),
    [
        ("default", {"model.orientation": "encoder"}, "--preset paper"),
        ("paper", {"model.orientation": "encoder", "base": True}, "--preset paper"),
        ("paper", {"model.orientation": "encoder", "devices": 2}, "one process"),
    ],
)
def test_what_does_not_go_together_is_refused(preset: str, overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_config(preset, None, overrides)
