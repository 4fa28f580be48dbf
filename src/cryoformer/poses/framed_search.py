"""Poses from nothing, or from very little, in the frame of poses that are known badly.

Which way round particles are, and which hand, these do tell: also where each of them may be wrong by any angle. Where
none is wrong by more than some 90 degrees they take part in the search itself (:mod:`.cone`).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from cryoformer.errors import InputError
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.particles import Particles
from cryoformer.poses.abinitio import AbInitio, Findings
from cryoformer.poses.cone import frame_turn
from cryoformer.poses.map_alignment import MIRROR
from cryoformer.progress import RunLog

# Frames that differ by more from one half of the particles to the other are not known.
LARGEST_FRAME_ERROR = 15.0


@dataclass(frozen=True)
class Searched:
    """Particles at the poses of a search, and how far these are to be trusted.

    Attributes:
        agreement_of_starts: correlation of the two best maps from nothing; None where there was one start.
        certainty: how probable the best view of an image is among all that were kept, on average.
        frame_degrees: how far the frames are apart that either half of the particles gives; 180 where they are of
            different hands.
    """

    particles: Particles
    agreement_of_starts: float | None
    certainty: float
    frame_degrees: float

    @property
    def facts(self) -> dict[str, float | None]:
        """As plain values."""
        return {name: value for name, value in vars(self).items() if name != "particles"}

    @property
    def sentence(self) -> str:
        """What is to be known of it."""
        starts = "" if self.agreement_of_starts is None else f"starts agree by {self.agreement_of_starts:.2f}, "
        said = f"{starts}an image's best view has a weight of {self.certainty:.2f} (mean)"
        if self.frame_degrees <= LARGEST_FRAME_ERROR:
            return f"{said}, two halves of the particles give frames {self.frame_degrees:.1f} degrees apart"
        return (
            f"{said}. BEWARE: the poses given do not say which way round these are, or of which hand (two halves of "
            f"the particles give frames {self.frame_degrees:.0f} degrees apart): either has next to nothing to do with "
            "the other"
        )


def searched_poses(
    particles: Particles, settings: ImageSettings, out: Path, log: RunLog, cone_degrees: float | None = None
) -> Searched:
    """Poses found about the shifts given, in the frame and of the hand of the rotations given.

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
    found = findings.arrays["rotations"].double().numpy()
    shifts = particles.shifts_angstrom + findings.arrays["shifts"].double().numpy()
    posed = replace(particles, rotations=in_frame(found, particles.rotations), shifts_angstrom=shifts)
    agreement = max(findings.facts["agreement_of_starts"], default=None)
    certainty, apart = findings.facts["certainty"], frame_difference(found, particles.rotations)
    return Searched(posed, agreement, certainty, apart)


def in_frame(found: Float[np.ndarray, "n 3 3"], given: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3 3"]:
    """Rotations turned by the one rotation, and mirrored or not, that brings them nearest to others on average."""
    mirrored, turn = _frame(found, given)
    return (MIRROR @ found @ MIRROR if mirrored else found) @ turn


def frame_difference(found: Float[np.ndarray, "n 3 3"], given: Float[np.ndarray, "n 3 3"]) -> float:
    """Degrees between the frames that every second particle gives and the others do; 180 if their hands differ."""
    (one_hand, one), (other_hand, other) = (_frame(found[start::2], given[start::2]) for start in (0, 1))
    if one_hand != other_hand:
        return 180.0
    return float(np.degrees(Rotation.from_matrix(one.T @ other).magnitude()))


def _frame(
    found: Float[np.ndarray, "n 3 3"], given: Float[np.ndarray, "n 3 3"]
) -> tuple[bool, Float[np.ndarray, "3 3"]]:
    """Whether rotations are to be mirrored, and how they are then to be turned."""
    hands = [
        (mirrored, *frame_turn(MIRROR @ found @ MIRROR if mirrored else found, given)) for mirrored in (False, True)
    ]
    mirrored, turn, _ = max(hands, key=lambda hand: hand[2])
    return mirrored, turn
