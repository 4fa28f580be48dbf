r"""Null of structure: is there a density in the particles at all?

Pure noise with the poses, CTFs and noise spectrum of the particles is back-projected in two halves, several times. Its
half maps correlate by chance alone: in a shell with N independent coefficients with a deviation of 1 / sqrt(N), so the
threshold of 0.143 means something only from shells on where N is large. Two numbers are compared between particles and
noise (:mod:`.chance`), both at the low box of stage B:

* the mean FSC of the halves over the shells from 2 on,
* the peak of the low-passed density in units of its own deviation outside the particle's sphere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.grids import voxel_radii
from cryoformer.linear.consensus import PARTICLE_RADIUS, Backprojection, wiener_backprojection
from cryoformer.validate.chance import against_chance
from cryoformer.validate.null_images import null_images
from cryoformer.validate.outcome import Outcome

NAME = "null_of_structure"
THRESHOLD = 0.143
LOWEST_SHELL = 2
CROWDED = 400
"""Coefficients that make 0.143 a chance of about one in 400 (2.8 deviations)."""


@dataclass(frozen=True)
class StructureFound:
    """What a back-projection shows."""

    half_map_fsc: Float[np.ndarray, " s"]
    peak: float

    @property
    def mean_fsc(self) -> float:
        """Mean over the shells from 2 on."""
        return float(self.half_map_fsc[LOWEST_SHELL:].mean())

    @property
    def highest_crowded_fsc(self) -> float:
        """The highest value in the shells that hold enough coefficients for 0.143 to mean something."""
        return float(self.half_map_fsc[crowded_shells(len(self.half_map_fsc))].max())


@dataclass(frozen=True)
class StructureTest:
    """The particles against pure noise."""

    observed: StructureFound
    nulls: list[StructureFound]
    p_value: float
    stands_out: bool


def find_structure(images: FourierImages) -> StructureFound:
    """Back-projection of these images."""
    found = wiener_backprojection(images)
    return StructureFound(found.half_map_fsc.double().cpu().numpy(), _peak(found))


def compare_structure(
    images: FourierImages, nulls: int, seed: int, progress: Callable[[float], None] | None = None
) -> StructureTest:
    """Back-project the images, and ``nulls`` sets of noise alone; all at one low box."""
    observed, found = find_structure(images), []
    for number in range(1, nulls + 1):
        if progress is not None:
            progress(number / (nulls + 1))
        found.append(find_structure(null_images(images, None, seed=1000 * (seed + 1) + 500 + number)))
    against = against_chance(observed.mean_fsc, [one.mean_fsc for one in found])
    return StructureTest(observed, found, against.p_value, against.stands_out)


def structure_outcome(test: StructureTest) -> Outcome:
    """The test in words and numbers."""
    highest, peak = max(null.mean_fsc for null in test.nulls), max(null.peak for null in test.nulls)
    observed = test.observed
    comparison = (
        f"the half maps of the particles correlate to {observed.mean_fsc:.2f} over all shells, those of pure noise to "
        f"{highest:.2f} at most"
    )
    if test.stands_out:
        sentence = f"The particles show a structure: {comparison}."
    else:
        sentence = f"The particles look like pure noise: {comparison}. Check poses, contrast and the picking."
    return Outcome(
        NAME,
        "holds" if test.stands_out else "fails",
        sentence,
        {
            "p_value": test.p_value,
            "nulls": len(test.nulls),
            "mean_fsc": observed.mean_fsc,
            "mean_fsc_nulls": [null.mean_fsc for null in test.nulls],
            "highest_fsc_of_noise": max(null.highest_crowded_fsc for null in test.nulls),
            "density_peak": observed.peak,
            "density_peak_nulls_largest": peak,
            "shells": len(observed.half_map_fsc),
            "shells_above_0143": int((observed.half_map_fsc[LOWEST_SHELL:] > THRESHOLD).sum()),
        },
    )


def crowded_shells(count: int) -> slice:
    """Shells, of this many, with at least ``CROWDED`` independent coefficients (at least the last one)."""
    # Half of a shell's sphere, 2 pi s^2; the halves' mask leaves only the share of its volume independent.
    share = PARTICLE_RADIUS**3 * np.pi / 6
    first = int(np.ceil(np.sqrt(CROWDED / (2 * np.pi * share))))
    return slice(min(first, count - 1), None)


def _peak(found: Backprojection) -> float:
    """Largest low-passed density inside the particle's sphere, in deviations of what lies outside."""
    volume = 0.5 * (found.halves[0] + found.halves[1])
    smooth: Tensor = torch.from_numpy(gaussian_filter(volume.cpu().numpy(), 1.5))
    inside = voxel_radii(len(smooth)) < PARTICLE_RADIUS * len(smooth) / 2
    outside = smooth[~inside]
    return float((smooth[inside].max() - outside.mean()) / outside.std())
