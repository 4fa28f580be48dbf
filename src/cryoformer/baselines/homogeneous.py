"""Homogeneous reconstruction at fixed poses: CTF-weighted Fourier back-projection with Wiener regularisation.

One density for all particles, filtered by the FSC of its two halves (:mod:`cryoformer.linear.consensus`): the
stand-in for conventional refinement. What a method that is blind to motion can do with noisy data.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from cryoformer.baselines.folder import DECODER_FILE, BaselineFolder
from cryoformer.baselines.interface import Decode, FitData, Fitted
from cryoformer.baselines.interface import Settings as BaseSettings
from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.files import write_mrc_volume
from cryoformer.imaging.fsc import resolution
from cryoformer.linear.consensus import reconstruct_consensus


class Settings(BaseSettings):
    """There is nothing to set."""


def fit(data: FitData, settings: Settings) -> Fitted:
    """Back-projection of all images and of two halves; their FSC."""
    data.log.stage("reading images")
    images = data.images()
    data.log.stage("back-projection")
    found = reconstruct_consensus(images)
    save_tensors(data.folder / DECODER_FILE, {"volume": found.volume}, {})
    for name, volume in (("map", found.volume), ("half1", found.halves[0]), ("half2", found.halves[1])):
        write_mrc_volume(data.folder / f"{name}.mrc", volume.cpu().numpy(), images.voxel_angstrom)
    fsc = found.half_map_fsc.cpu().numpy().astype(np.float64)
    return Fitted(
        latents=np.zeros((len(images), 0), dtype=np.float32),
        box=images.box,
        pixel_size_angstrom=images.voxel_angstrom,
        facts={
            "half_map_fsc": [round(float(value), 4) for value in fsc],
            "half_map_resolution_angstrom": resolution(fsc, images.box, images.voxel_angstrom, 0.143),
        },
    )


def decoder(opened: BaselineFolder) -> Decode:
    """The one map, whatever the latent."""
    volume = load_tensors(opened.decoder_file)[0]["volume"].numpy()

    def decode(latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        return (volume for _ in latents)

    return decode
