"""The data: particles with lazy images, poses and optics; their files; preprocessing."""

from cryoformer.particles.check import check_images
from cryoformer.particles.load import load_particles
from cryoformer.particles.particles import Particles

__all__ = ["Particles", "check_images", "load_particles"]
