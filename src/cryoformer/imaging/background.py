"""The background of particle images: where it is, and normalisation by its mean and standard deviation."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32

from cryoformer.errors import InputError

# RELION's default: the background circle is 75 % of the box across.
BACKGROUND_RADIUS_FRACTION = 0.75


@lru_cache(maxsize=8)
def background_mask(box: int, radius_fraction: float = BACKGROUND_RADIUS_FRACTION) -> Bool[np.ndarray, "d d"]:
    """Pixels outside a circle about the origin (pixel ``D // 2``), its radius a fraction of half the box."""
    offset = np.arange(box) - box // 2
    return offset[:, None] ** 2 + offset[None, :] ** 2 > (radius_fraction * box / 2) ** 2


def normalise_background(
    images: Float32[np.ndarray, "b d d"], radius_fraction: float = BACKGROUND_RADIUS_FRACTION
) -> tuple[Float32[np.ndarray, "b d d"], Float32[np.ndarray, " b"], Float32[np.ndarray, " b"]]:
    """Background mean to 0 and standard deviation to 1, image by image, as RELION does.

    Returns:
        The normalised images, and each image's background mean and standard deviation: ``image = normalised * std +
        mean``, so a density fitted to normalised images is ``std`` times too small on the input's scale.

    Raises:
        InputError: the background of an image is constant.
    """
    background = images[:, background_mask(images.shape[-1], radius_fraction)]
    mean, std = background.mean(axis=1, dtype=np.float64), background.std(axis=1, dtype=np.float64)
    flat = np.flatnonzero(~(std > 0))
    if len(flat):
        raise InputError(
            f"image {flat[0]} of a batch of {len(images)} has a constant background, so its noise cannot be "
            "normalised; remove padded or masked images, or extract them again"
        )
    mean, std = mean.astype(np.float32), std.astype(np.float32)
    return (images - mean[:, None, None]) / std[:, None, None], mean, std
