"""The memory that a run will take, told before the work: what its largest box asks for."""

import logging

import psutil

from cryoformer.errors import InputError

logger = logging.getLogger(__name__)

# Python, torch, and what lies about.
REST_GIB = 0.7


def consensus_gib(box: int) -> float:
    """Back-projection of two halves: their equations, 12 bytes a voxel of the padded half volume, and a transform."""
    return 4 * box**3 * (2 * 12 + 8) / 2**30


def linear_gib(box: int, components: int) -> float:
    """Equations of mean and components, q (q + 5) / 2 numbers a voxel, and their transforms."""
    q = components + 1
    return 4 * box**3 * (2 * q * (q + 5) + 8 * q) / 2**30


def tell_memory(box: int, components: int, images_gib: float) -> str:
    """One line on the memory that one process will take.

    Args:
        box: of the images.
        components: of the linear subspace, at most; 0 if there is none.
        images_gib: what images may take.

    Raises:
        InputError: the machine has less than back-projection alone takes.
    """
    here = psutil.virtual_memory().total / 2**30
    rest = REST_GIB + images_gib
    least, most = consensus_gib(box) + rest, linear_gib(box, components) + rest
    if least > here:
        raise InputError(
            f"images of {box} pixels take {least:.1f} GiB of memory a process, and this machine has {here:.1f}: "
            "downsample them, or use a larger machine"
        )
    if most > here:
        logger.warning(
            "%d components at %d pixels would take %.1f GiB, and this machine has %.1f: should so many be found, lower "
            "subspace.dimension, or downsample the images", components, box, most, here,
        )  # fmt: skip
    return f"memory of a process: up to {max(least, most):.1f} GiB, {least:.1f} without the linear subspace"
