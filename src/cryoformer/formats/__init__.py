"""Particle files of RELION, cryoSPARC and cryoDRGN: read, chosen from, converted, written back as they came."""

from cryoformer.formats.load import load_particles

__all__ = ["load_particles"]
