"""Memory that the work on a box takes, estimated before it begins.

Back-projection holds its normal equations on a grid of twice the box, with what is gathered from images: measured on
one thread, 0.7 GiB at a box of 128, 5.7 GiB at 256, more than 14.2 GiB at 384. That is 365 bytes a voxel.
"""

import psutil

from cryoformer.errors import InputError

BYTES_PER_VOXEL = 365
PROGRAM_BYTES = 0.4 * 2**30


def needed_bytes(box: int) -> float:
    """Peak memory of a back-projection at a box, the program included."""
    return PROGRAM_BYTES + BYTES_PER_VOXEL * box**3


def check_memory(box: int, device: str = "cpu") -> None:
    """Refuse a box that the free memory cannot hold; on a GPU the device says so itself.

    Raises:
        InputError: how much is needed, and how much is free.
    """
    needed, free = needed_bytes(box), float(psutil.virtual_memory().available)
    if not device.startswith("cuda") and needed > free:
        raise InputError(
            f"a box of {box} pixels needs some {needed / 2**30:.0f} GiB of memory, {free / 2**30:.0f} GiB are free; "
            "make the images smaller with 'cryoformer downsample', or use a machine with more memory"
        )
