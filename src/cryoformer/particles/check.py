"""A look at every image before the work starts."""

import logging

import numpy as np
from jaxtyping import Float, Float32, Int

from cryoformer.errors import InputError
from cryoformer.imaging.background import background_mask
from cryoformer.particles.particles import Particles, finite_images
from cryoformer.particles.repeats import image_numbers

logger = logging.getLogger(__name__)

# Neither noise nor density has a pixel so many standard deviations from the mean of its image.
HOT_DEVIATIONS = 20.0
LEAST_PARTICLES = 20
SAMPLED_PIXELS = 4096
MASKED_SHARE = 0.05
# From the first to the ninth decile of a normal distribution of standard deviation 1.
DECILES_OF_NORMAL = 2.5631


def check_count(particles: Particles, least: int = LEAST_PARTICLES) -> None:
    """Refuse so few particles that two halves, and held-out images, cannot be made of them. Repeated images count once.

    Raises:
        InputError: fewer images than ``least``.
    """
    rows, count = len(particles), int(image_numbers(particles).max(initial=-1)) + 1
    if count < least:
        some = f"{rows} particle{'' if rows == 1 else 's'}"
        chosen = "" if particles.rows is None else " (of those that were chosen)"
        repeated = "" if count == rows else f" (of {count} image{'' if count == 1 else 's'})"
        raise InputError(
            f"{particles.source}: has {some}{repeated}{chosen}; {least} or more are needed for two halves and held-out "
            "images"
        )


def check_images(
    particles: Particles, normalise: bool = True, chunk_bytes: int = 64 * 2**20, rows_before: int = 0
) -> None:
    """Read every image once, in disk order with bounded memory, and look for those that cannot be used.

    One warning says which have pixels far beyond all others (hot pixels, X-rays, the edge of a micrograph), and one
    which hold the very pixels of another image: copies, of which no table tells.

    Args:
        normalise: whether the background of every image is to be normalised. Otherwise it may be constant, as in
            masked or noiseless images; images that are constant all over are refused all the same.
        rows_before: rows of the file before these particles.

    Raises:
        InputError: images with NaN or infinite values, or with a constant background (blank or masked images), whose
            noise cannot be normalised.
    """
    stacks = particles.require_stacks()
    broken: list[int] = []
    flat: list[int] = []
    hot: dict[int, float] = {}
    hashes = np.empty(len(particles), dtype=np.int64)
    for rows, images in stacks.chunks(chunk_bytes):
        finite = finite_images(images)
        hashes[rows] = [hash(image.tobytes()) for image in images]
        looked_at = images[:, background_mask(images.shape[-1])] if normalise else images.reshape(len(images), -1)
        broken += rows[~finite].tolist()
        flat += rows[finite & (looked_at.min(axis=1) == looked_at.max(axis=1))].tolist()
        largest = farthest_pixels(images[finite])
        hot |= {int(row): float(value) for row, value in zip(rows[finite], largest, strict=True)
                if value > HOT_DEVIATIONS}  # fmt: skip
    constant = (
        "have a constant background (blank or masked?)" if normalise else "are constant all over (blank?)",
        "extract the images again without a mask, or use them as they are with --normalise no"
        if normalise
        else "extract the images again",
    )
    for found, what, remedy in ((broken, "hold NaN or infinite values", "extract the images again"), (flat, *constant)):
        if found:
            first = min(found)
            row = rows_before + first + 1
            raise InputError(
                f"{particles.source}: {len(found)} of {len(particles)} images {what}, the first in row {row} "
                f"(image {stacks.name(first)}); remove these rows or {remedy}"
            )
    if hot:
        rows_text = ", ".join(str(rows_before + row + 1) for row in sorted(hot)[:8]) + (", ..." if len(hot) > 8 else "")
        logger.warning(
            "%s: %d of %d images have pixels more than %.0f standard deviations from their median (up to %.3g; hot "
            "pixels?), which spoil maps: row %s; remove these rows, or extract with the pixels replaced",
            particles.source, len(hot), len(particles), HOT_DEVIATIONS, max(hot.values()), rows_text,
        )  # fmt: skip
    _warn_of_copies(particles, hashes, rows_before)


def _warn_of_copies(particles: Particles, hashes: Int[np.ndarray, " n"], rows_before: int) -> None:
    """Rows of different images whose pixels are the same; rows that name one image twice are known already."""
    images = image_numbers(particles)
    first_of_image = np.unique(images, return_index=True)[1]
    some = hashes[first_of_image]
    _, first, number = np.unique(some, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[number] != np.arange(len(some)))
    if len(copies):
        row, original = first_of_image[copies[0]], first_of_image[first[number[copies[0]]]]
        logger.warning(
            "%s: %d of %d images hold the same pixels as another one (row %d as row %d): copies, which may come to lie "
            "in both halves; remove them",
            particles.source, len(copies), len(some), rows_before + row + 1, rows_before + original + 1,
        )  # fmt: skip


def farthest_pixels(images: Float32[np.ndarray, "b d d"]) -> Float[np.ndarray, " b"]:
    """How far the most extreme pixel of each image is from its median, in standard deviations.

    Median and deviation come from the deciles of some pixels, which hot ones do not move. Pixels that a mask has set
    to one value are left out.
    """
    if not len(images):
        return np.zeros(0)
    flat = images.reshape(len(images), -1)
    some = flat[:, :: max(1, flat.shape[1] // SAMPLED_PIXELS)]
    low, middle, high = np.percentile(some, [10, 50, 90], axis=1)
    masked = np.flatnonzero((some == some[:, :1]).mean(axis=1) > MASKED_SHARE)
    for image in masked:
        inside = some[image][some[image] != some[image, 0]]
        low[image], middle[image], high[image] = np.percentile(inside, [10, 50, 90]) if len(inside) else (0, 0, 0)
    deviation = (high - low) / DECILES_OF_NORMAL
    farthest = np.maximum(flat.max(axis=1) - middle, middle - flat.min(axis=1)).astype(np.float64)
    return np.where(deviation > 0, farthest / np.where(deviation > 0, deviation, 1.0), 0.0)
