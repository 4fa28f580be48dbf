"""Whether the poses are good enough to look for motion: particles that are turned wrongly look as if they moved.

One step of the refinement of poses (:mod:`cryoformer.reconstruct.pose_refinement`) at low resolution. If half maps
agree better under the poses that it finds, those given are off. Poses that are right are not made better, however the
particles move; a motion that is large makes the estimate of the error too large.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from cryoformer.assess.outcome import Outcome
from cryoformer.reconstruct.consensus import reconstruct_consensus
from cryoformer.reconstruct.images import FourierImages
from cryoformer.reconstruct.pose_posterior import PosePrior, at_poses
from cryoformer.reconstruct.pose_reference import still_references
from cryoformer.reconstruct.pose_refinement import LEAST_GAIN, Poses, pose_posteriors

NAME = "poses"


@dataclass(frozen=True)
class PoseTest:
    """Mean half-map FSC under the poses given and under others, and by how much the images say that poses are off."""

    agreement: float
    agreement_refined: float
    errors: PosePrior

    @property
    def are_off(self) -> bool:
        """Whether other poses are better."""
        return self.agreement_refined > self.agreement + LEAST_GAIN


def compare_poses(images: FourierImages, progress: Callable[[float], None] | None = None) -> PoseTest:
    """Half maps at the poses of ``images``, and at those that these half maps suggest."""
    given = Poses.given(len(images), images.box * images.pixel_size_angstrom)
    consensus = reconstruct_consensus(images)
    tell = progress or (lambda done: None)
    noisy = images.with_noise(consensus.noise_power)
    references = still_references(noisy, consensus)
    found = pose_posteriors(noisy, references, given, lambda done: tell(0.8 * done / len(images)))
    other = reconstruct_consensus(at_poses(images, found.mean.to(images.device)))
    agreement, refined = (float(each.half_map_fsc.mean()) for each in (consensus, other))
    return PoseTest(agreement, refined, found.prior)


def poses_outcome(test: PoseTest) -> Outcome:
    """The verdict."""
    degrees = math.degrees(test.errors.turn)
    off = f"{degrees:.1f} degrees and {test.errors.shift:.1f} A"
    agree = f"(FSC {test.agreement_refined:.3f} against {test.agreement:.3f}, mean over shells)"
    if test.are_off:
        sentence = (
            f"The poses are off by some {off}: half maps agree better at others {agree}. Particles that are turned "
            "wrongly look as if they moved: run cryoformer refine, and train on what it writes."
        )
    else:
        sentence = f"Half maps agree no better at other poses {agree}; the poses are off by {off} at most."
    numbers = {
        "mean_fsc": test.agreement,
        "mean_fsc_refined": test.agreement_refined,
        "turn_degrees": degrees,
        "shift_angstrom": test.errors.shift,
    }
    return Outcome(NAME, "fails" if test.are_off else "holds", sentence, numbers)
