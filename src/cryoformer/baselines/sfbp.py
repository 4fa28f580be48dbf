"""Sparse Fourier Backpropagation (Kimanius et al., NeurIPS 2022), trained: no code of its authors is public.

Encoder of five residual GELU blocks 256 wide, 16 structural bases, KL weight 1, Adam at 1e-4, batches of 256, as in
that paper and in the CryoFormer paper's comparison. What is ours: the bias begins as the back-projection of the data
(``start: zero`` for an empty grid), and Adam's moments of a voxel move on only when it is touched.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from cryoformer.baselines.folder import DECODER_FILE, BaselineFolder
from cryoformer.baselines.interface import Decode, FitData, Fitted
from cryoformer.baselines.interface import Settings as BaseSettings
from cryoformer.baselines.sfbp_model import SparseFourierVAE, VoxelDecoder, radial_amplitude
from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.fourier import radial_mean
from cryoformer.linear.consensus import wiener_backprojection

AMPLITUDE_SAMPLE = 2000  # images


class Settings(BaseSettings):
    """As in the paper."""

    dimension: int = Field(default=2, ge=1, le=64, description="Of the latent")
    bases: int = Field(default=16, ge=1, description="Structural bases")
    layers: int = Field(default=5, ge=1, description="Residual blocks of the encoder")
    width: int = Field(default=256, ge=1, description="Of the encoder")
    epochs: int = Field(default=100, ge=1)
    batch: int = Field(default=256, ge=1, description="Images a step")
    learning_rate: float = Field(default=1e-4, gt=0)
    kl_weight: float = Field(default=1.0, ge=0)
    start: Literal["consensus", "zero"] = Field(default="consensus", description="What the bias begins as")


def fit(data: FitData, settings: Settings) -> Fitted:
    """Train, then read the latents of all particles."""
    data.log.stage("reading images")
    images = data.images()
    data.log.stage("radial amplitude and start")
    model = new_model(images, settings)
    data.log.stage("training")
    epochs = train(model, images, settings, data)
    with torch.no_grad():
        posteriors = [model.encode(some) for _, some in images.batches(images.every())]
    mean = torch.cat([mean for mean, _ in posteriors])
    variance = torch.cat([log_variance for _, log_variance in posteriors]).exp()
    save_tensors(data.folder / DECODER_FILE, model.decoder.state_dict(), {})
    return Fitted(
        latents=mean.cpu().numpy(),
        covariance=torch.diag_embed(variance).cpu().numpy(),
        box=images.box,
        pixel_size_angstrom=images.voxel_angstrom,
        facts={"epochs": round(epochs, 2)},
    )


def decoder(opened: BaselineFolder) -> Decode:
    """Bias and bases, summed on the grid and transformed."""
    tensors, _ = load_tensors(opened.decoder_file)
    settings = Settings.model_validate(opened.facts["settings"])
    voxels = VoxelDecoder(opened.box, settings.dimension, settings.bases, tensors["amplitude"], None)
    voxels.load_state_dict(tensors)

    def decode(latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        for point in torch.from_numpy(np.asarray(latents, dtype=np.float32)):
            yield voxels.volume(point).numpy()

    return decode


def new_model(images: Images, settings: Settings) -> SparseFourierVAE:
    """The untrained network for these images."""
    amplitude = radial_amplitude(_radial_power(images))
    start = wiener_backprojection(images).volume if settings.start == "consensus" else None
    voxels = VoxelDecoder(images.box, settings.dimension, settings.bases, amplitude, start)
    return SparseFourierVAE(voxels, settings.dimension, settings.width, settings.layers)


def train(model: SparseFourierVAE, images: Images, settings: Settings, data: FitData) -> float:
    """Epochs until the settings or the time say stop; returns how many."""
    table = model.decoder.table
    dense = [parameter for parameter in model.parameters() if parameter is not table]
    optimizers = [
        torch.optim.SparseAdam([table], lr=settings.learning_rate),
        torch.optim.Adam(dense, lr=settings.learning_rate),
    ]
    generator = torch.Generator().manual_seed(data.reading.seed)
    steps_an_epoch, step = -(-len(images) // settings.batch), 0
    for epoch in range(settings.epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        sums = torch.zeros(2)
        for rows, some in images.batches(order.split(settings.batch)):
            error, divergence = model.loss(some, generator)
            for optimizer in optimizers:
                optimizer.zero_grad()
            (error + settings.kl_weight * divergence).backward()
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            sums += len(rows) * torch.stack([error.detach(), divergence.detach()]).cpu()
            done = step / steps_an_epoch
            facts = f"epoch {epoch + 1}  error {error.item():.1f}  KL {divergence.item():.3f}"
            data.log.advance(done / settings.epochs, facts)
            if data.time_is_up():
                data.log.say(f"time is up after {done:.1f} epochs")
                return done
        error_mean, divergence_mean = (sums / len(images)).tolist()
        data.log.record(stage="sfbp", epoch=epoch, error=round(error_mean, 3), divergence=round(divergence_mean, 4))
    return float(settings.epochs)


def _radial_power(images: Images) -> Float[Tensor, " s"]:
    """Mean |Y|^2 per shell."""
    rows = torch.linspace(0, len(images) - 1, min(AMPLITUDE_SAMPLE, len(images)), device=images.device).round().long()
    total = torch.zeros(images.box, images.box // 2 + 1, device=images.device)
    for _, some in images.batches(rows.split(256)):
        total += some.coefficients.abs().square().sum(dim=0)
    return radial_mean(total / len(rows), images.box)
