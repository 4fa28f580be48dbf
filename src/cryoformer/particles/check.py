"""A look at every image before the work starts."""

from cryoformer.errors import InputError
from cryoformer.imaging.background import background_mask
from cryoformer.particles.particles import Particles, finite_images


def check_images(particles: Particles, chunk_bytes: int = 64 * 2**20) -> None:
    """Read every image once, in disk order with bounded memory, and look for those that cannot be used.

    Raises:
        InputError: images with NaN or infinite values, or with a constant background (blank or masked images), whose
            noise cannot be normalised.
    """
    stacks = particles.require_stacks()
    broken: list[int] = []
    flat: list[int] = []
    for rows, images in stacks.chunks(chunk_bytes):
        finite = finite_images(images)
        outside = images[:, background_mask(images.shape[-1])]
        broken += rows[~finite].tolist()
        flat += rows[finite & (outside.min(axis=1) == outside.max(axis=1))].tolist()
    what_is_wrong = (
        (broken, "hold NaN or infinite values", "extract the images again"),
        (flat, "have a constant background (blank or masked?)", "extract the images again without a mask"),
    )
    for found, what, remedy in what_is_wrong:
        if found:
            first = min(found)
            raise InputError(
                f"{particles.source}: {len(found)} of {len(particles)} images {what}, the first in row {first + 1} "
                f"(image {stacks.name(first)}); remove these rows or {remedy}"
            )
