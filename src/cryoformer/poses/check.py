"""Whether poses are good enough to look for motion: wrong orientations look like motion.

One step of the refinement of poses (:mod:`.rounds`) at low resolution. If half maps agree better under the
poses that it finds, those given are off. Poses that are right are not made better, however the particles move; a motion
that is large makes the estimate of the error too large.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.poses.posterior import at_poses
from cryoformer.poses.reference import still_references
from cryoformer.poses.rounds import LEAST_GAIN, Poses, pose_posteriors

SAMPLE = 2000


@dataclass(frozen=True)
class PoseCheck:
    """Mean half-map FSC under the poses given and under others, and by how much the images say that poses are off."""

    agreement: float
    agreement_refined: float
    found: Poses

    @property
    def are_off(self) -> bool:
        """Whether other poses are better."""
        return self.found.improves and self.agreement_refined > self.agreement + LEAST_GAIN

    @property
    def sentence(self) -> str:
        """What that means, and what to do."""
        prior = self.found.prior
        off = f"{math.degrees(prior.turn):.1f} degrees about an axis and {prior.shift:.1f} A along one"
        agree = f"(FSC {self.agreement_refined:.3f} against {self.agreement:.3f}, mean over shells)"
        if self.are_off:
            return (
                f"The poses are off by some {off}: half maps agree better at others {agree}. Wrong "
                "orientations look like motion: run cryoformer refine, and train on what it writes."
            )
        return f"No other poses are better {agree}; the poses are off by {off} at most."


def check_poses(images: FourierImages, progress: Callable[[float], None] = lambda done: None) -> PoseCheck:
    """Half maps at the poses of ``images``, which are of a low box, and at those that these half maps suggest."""
    given = Poses.given(len(images), images.box * images.pixel_size_angstrom)
    consensus = reconstruct_consensus(images)
    noisy = images.with_noise(consensus.noise_power)
    references = still_references(noisy, consensus)
    found = pose_posteriors(noisy, references, given, lambda done: progress(0.8 * done / len(images)))
    other = reconstruct_consensus(at_poses(images, found.mean.to(images.device)))
    agreement, refined = (float(each.half_map_fsc.mean()) for each in (consensus, other))
    return PoseCheck(agreement, refined, found)


def sample_for_check(images: Images, box: int) -> FourierImages:
    """Enough images, evenly strided, at a low box, in every process."""
    low = images.crop(min(box, images.box))
    count = low.part.total
    return low.gathered(torch.linspace(0, count - 1, min(SAMPLE, count), device=low.device).round().long())
