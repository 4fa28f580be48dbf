"""Every stage of a run on a device that is not the CPU: nothing is made on the wrong one, nothing copied silently."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from cryoformer.decode.latent_posterior import refine_latents
from cryoformer.images.fourier_images import FourierImages
from cryoformer.linear.consensus import Consensus, reconstruct_consensus
from cryoformer.linear.linear_stage import LinearStage, fit_linear_stage
from cryoformer.poses.check import check_poses
from cryoformer.progress import RunLog
from cryoformer.training.held_out_filter import split_held_out
from cryoformer.training.schedule import CoarseToFine
from cryoformer.training.start import ppca_start, unaided_start
from cryoformer.training.train_config import TrainConfig, load_config
from pretend_device import DEVICE, OnDevice, PretendDevice, WrongDevice
from toy_images import simulate

SETTINGS: dict[str, Any] = {
    "subspace": {"box": 16, "dimension": 2, "iterations": 3},
    "stages": [{"box": 16, "epochs": 1, "batch": 32}, {"box": 24, "epochs": 1, "batch": 32}],
    "model": {"queries": 8, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2},
    "latent_states": 16,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "image encoder": {"model": SETTINGS["model"] | {"encoder": "mlp"}, "decode": "occupied"},
    "free latents": {"latents": "free"},
    "fourier": {"model": SETTINGS["model"] | {"domain": "fourier"}},
}


class PretendFabric(Fabric):
    """Leaves networks where they are, as on a device of Fabric's."""

    def setup(self, module: Any, *optimizers: Any, **more: Any) -> Any:
        return super().setup(module, *optimizers, move_to_device=False)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendDevice]:
    """The device, as one that has fused optimisers."""
    optimizer = import_module("torch.optim.optimizer")
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"])
    with PretendDevice() as mode:
        yield mode


@pytest.fixture
def images(device: PretendDevice) -> FourierImages:
    made = simulate(200, noise=0.7).images
    return replace(made, **{name: x.to(DEVICE) for name, x in vars(made).items() if isinstance(x, Tensor)})


def linear_of(images: FourierImages, consensus: Consensus, config: TrainConfig) -> LinearStage:
    with RunLog(None) as log:
        rows = split_held_out(torch.arange(200), 0)[0].to(DEVICE)
        return fit_linear_stage(images, consensus, config.subspace, 0, log, rows)


def assert_there(*tensors: Tensor) -> None:
    assert all(isinstance(tensor, OnDevice) for tensor in tensors)


def test_the_device_tells_mistakes(device: PretendDevice) -> None:
    there, here = torch.arange(3.0, device=DEVICE), torch.arange(3)
    mistakes = (lambda: there + here, lambda: there[here], lambda: there.copy_(here))
    for mistake in mistakes:
        with pytest.raises(WrongDevice):
            mistake()
    with pytest.raises((TypeError, RuntimeError)):
        there.numpy()
    assert_there(there + 1, there[torch.tensor([0, 2], device=DEVICE)], here.to(DEVICE))
    assert torch.equal((there + here.to(DEVICE)).cpu(), 2.0 * here)


def test_consensus_and_subspace(images: FourierImages) -> None:
    consensus = reconstruct_consensus(images)
    assert_there(*vars(consensus).values())
    found = vars(linear_of(images, consensus, load_config(overrides=SETTINGS))).values()
    assert_there(*(tensor for tensor in found if tensor is not None))


def test_pose_posteriors(images: FourierImages) -> None:
    check_poses(images)


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name != "default")) for name in VARIANTS]
)
def test_training_and_latents(images: FourierImages, variant: str, tmp_path: Path) -> None:
    config = load_config(overrides=SETTINGS | VARIANTS[variant])
    consensus = reconstruct_consensus(images)
    if config.fits_ppca:
        start = ppca_start(linear_of(images, consensus, config), consensus.volume, config)
    else:
        start = unaided_start(images, consensus, config)
    fabric = PretendFabric(accelerator="cpu", devices=1)
    with RunLog(None) as log:
        trained = CoarseToFine(tmp_path, config, fabric, log, None).train(images, consensus, start)
    assert trained.latents is not None
    assert_there(trained.latents, trained.model.static, *trained.model.network.parameters())
    assert_there(*refine_latents(trained.model, images, trained.latents, 8, 0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_finds_what_the_cpu_finds() -> None:
    here = simulate(200, noise=0.7).images
    there = replace(here, **{name: x.to("cuda") for name, x in vars(here).items() if isinstance(x, Tensor)})
    found = []
    for images in (here, there):
        consensus, settings = reconstruct_consensus(images), load_config(overrides=SETTINGS).subspace
        with RunLog(None) as log:
            linear = fit_linear_stage(images, consensus, settings, 0, log)
        found.append((consensus.volume.cpu(), linear.mean.cpu(), linear.flexible.cpu()))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()
