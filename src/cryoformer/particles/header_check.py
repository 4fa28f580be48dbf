"""What a particle file says of its images against what the headers of their stacks say."""

import logging
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from cryoformer.errors import InputError
from cryoformer.particles.stack import ImageStacks

logger = logging.getLogger(__name__)


def check_headers(
    source: Path,
    stacks: ImageStacks,
    boxes: Integer[np.ndarray, " n"],
    pixel_sizes_angstrom: Float[np.ndarray, " n"],
    box_field: str,
    pixel_size_field: str,
) -> None:
    """Image sides must agree; pixel sizes in headers are wrong too often, so there the metadata decides.

    Args:
        boxes: image side per particle as the file says it, 0 where it does not.
        box_field: what the file calls it.
        pixel_size_field: what it calls the pixel size.

    Raises:
        InputError: the file and a stack differ about the size of an image.
    """
    other = np.flatnonzero((boxes != 0) & (boxes != stacks.boxes))
    if len(other):
        row = int(other[0])
        raise InputError(
            f"{source}: row {row + 1}: {box_field} says {boxes[row]} pixels, the images of "
            f"{stacks.headers[stacks.stack_of_row[row]].path} have {stacks.boxes[row]}; is it the stack of this file? "
            f"If it was resized, correct {box_field} and {pixel_size_field}"
        )
    in_headers = np.array([header.pixel_size_angstrom for header in stacks.headers])[stacks.stack_of_row]
    differ = np.flatnonzero(~np.isclose(in_headers, pixel_sizes_angstrom, rtol=0.01))
    if len(differ):
        row = int(differ[0])
        # 0 and 1 are what tools write that do not know; anything else deserves a second look.
        level = logging.INFO if in_headers[row] in (0.0, 1.0) else logging.WARNING
        logger.log(
            level,
            "%s: pixel size %.4g A from the metadata; the header of %s says %.4g and is not used",
            source,
            pixel_sizes_angstrom[row],
            stacks.headers[stacks.stack_of_row[row]].path,
            in_headers[row],
        )
