"""Memory that the work on a box takes, estimated before it begins.

Back-projection holds its normal equations on a grid of twice the box, and training projects what it decodes.
Measured on one thread, without images: 2.0 GiB at a box of 128, 7.0 GiB at 256. At small boxes the equations of the
linear volumes are the largest, which stay as they are beyond 128.
"""

import psutil

from cryoformer.errors import InputError

# Linear volumes are solved for at no larger box: the equations of six components would take 14 GiB at 256.
LARGEST_LINEAR_BOX = 128
BYTES_PER_VOXEL = 420
PROGRAM_BYTES = 0.4 * 2**30


def needed_bytes(box: int, components: int = 0) -> float:
    """Peak memory of the work on a box, the program included, images not.

    ``components``: of the linear subspace, at most; 0 where there is none. The equations of q = k + 1 volumes are
    q (q + 5) / 2 numbers a voxel of the padded half volume.
    """
    q = components + 1
    linear = 4 * 4 * min(box, LARGEST_LINEAR_BOX) ** 3 * (q * (q + 5) / 2 + 2 * q)
    return PROGRAM_BYTES + max(BYTES_PER_VOXEL * box**3, linear)


def check_memory(box: int, device: str = "cpu", components: int = 0) -> None:
    """Refuse a box that the free memory cannot hold; on a GPU the device says so itself.

    Raises:
        InputError: how much is needed, and how much is free.
    """
    needed, free = needed_bytes(box, components), float(psutil.virtual_memory().available)
    if not device.startswith("cuda") and needed > free:
        raise InputError(
            f"a box of {box} pixels needs some {needed / 2**30:.0f} GiB of memory, {free / 2**30:.0f} GiB are free; "
            "make the images smaller with 'cryoformer downsample', or use a machine with more memory"
        )
