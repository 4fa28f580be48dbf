"""The data: particles with poses, optics and CTF, and their image stacks on disk."""

from cryoformer.particles.check import check_count, check_images
from cryoformer.particles.particles import Particles

__all__ = ["Particles", "check_count", "check_images"]
