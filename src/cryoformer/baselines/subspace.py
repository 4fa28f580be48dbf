"""Linear subspace with kernel-regression volumes: this package's own stage B, and what the best linear methods add.

Latents and their posteriors come from 3D probabilistic PCA at low resolution (:mod:`cryoformer.linear.ppca`);
volumes from the images nearest to a latent point (:mod:`.kernel_regression`), or from the linear model itself.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field

from cryoformer.baselines.folder import DECODER_FILE, BaselineFolder
from cryoformer.baselines.interface import Decode, FitData, Fitted
from cryoformer.baselines.interface import Settings as BaseSettings
from cryoformer.baselines.kernel_regression import KernelRegression
from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.decode.volume_source import linear_decoder
from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.linear.linear_stage import fit_linear_stage
from cryoformer.linear.ppca_settings import PPCASettings


class Settings(BaseSettings):
    """Of the subspace (as in a run), and where volumes come from."""

    subspace: PPCASettings = PPCASettings()
    volumes: Literal["kernel", "linear"] = Field(default="kernel", description="Kernel regression, or mean + basis")


def fit(data: FitData, settings: Settings) -> Fitted:
    """Consensus, subspace, posteriors of all latents."""
    data.log.stage("reading images")
    images = data.images()
    data.log.stage("consensus")
    consensus = reconstruct_consensus(images)
    images = images.with_noise(consensus.noise_power)
    data.log.stage("linear subspace")
    linear = fit_linear_stage(images, consensus, settings.subspace, data.reading.seed, data.log)
    kept = {"mean": linear.mean, "basis": linear.basis, "noise_power": consensus.noise_power}
    save_tensors(data.folder / DECODER_FILE, kept, {})
    return Fitted(
        latents=linear.latents.cpu().numpy(),
        covariance=linear.covariance.cpu().numpy(),
        box=images.box,
        pixel_size_angstrom=images.voxel_angstrom,
    )


def decoder(opened: BaselineFolder) -> Decode:
    """Kernel regression reads the images again: it decodes from them."""
    tensors, _ = load_tensors(opened.decoder_file)
    if opened.facts["settings"]["volumes"] == "linear":
        return linear_decoder(tensors["mean"].numpy(), tensors["basis"].numpy())
    if opened.covariance is None:
        raise ValueError("a subspace has covariances")
    images = opened.images().with_noise(tensors["noise_power"])
    regression = KernelRegression(images, torch.from_numpy(opened.latents), torch.from_numpy(opened.covariance))

    def decode(latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        for point in torch.from_numpy(np.asarray(latents, dtype=np.float32)):
            yield regression.volume(point).numpy()

    return decode
