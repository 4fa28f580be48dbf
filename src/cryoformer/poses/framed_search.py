"""Poses from nothing, or from very little, in the frame of poses that are known badly.

Which way round particles are, and which hand, these do tell: also where each of them may be wrong by any angle. Where
none is wrong by more than some 90 degrees they take part in the search itself (:mod:`.cone`).
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryoformer.errors import InputError
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.particles import Particles
from cryoformer.poses.abinitio import AbInitio, Findings
from cryoformer.poses.cone import frame_turn
from cryoformer.poses.map_alignment import MIRROR
from cryoformer.progress import RunLog


def searched_poses(
    particles: Particles, settings: ImageSettings, out: Path, log: RunLog, cone_degrees: float | None = None
) -> Particles:
    """The particles at poses found about the shifts given, in the frame and of the hand of the rotations given.

    Args:
        out: folder for what was found so far, and for images that do not fit the memory.
        cone_degrees: how far rotations are from those given at most; None: these say nothing else.

    Raises:
        InputError: the particles have no structure.
    """
    findings = Findings.at(out / "search.safetensors")
    if not findings.complete:
        images = prepare_images(particles, out / "cache", settings)
        AbInitio(images, findings, settings.seed, log, cone_degrees=cone_degrees).run()
    if not findings.has_structure:
        raise InputError(f"{particles.source}: {findings.sentence}")
    rotations = in_frame(findings.arrays["rotations"].double().numpy(), particles.rotations)
    shifts = particles.shifts_angstrom + findings.arrays["shifts"].double().numpy()
    return replace(particles, rotations=rotations, shifts_angstrom=shifts)


def in_frame(found: Float[np.ndarray, "n 3 3"], given: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotations turned by the one rotation, and mirrored or not, that brings them nearest to others on average."""
    hands = [(rotations, *frame_turn(rotations, given)) for rotations in (found, MIRROR @ found @ MIRROR)]
    rotations, turn, _ = max(hands, key=lambda hand: hand[2])
    return rotations @ turn
