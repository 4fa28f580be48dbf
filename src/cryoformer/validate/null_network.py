"""Null of the network: a whole run on particles that do not move.

The null of motion repeats the linear stage; this one repeats everything. A stack is simulated from the consensus with
the particles' poses, CTFs, halves and noise spectrum, a run is trained on it, and the log likelihood that its network
gains on images held out of its training is compared with what the run's own network gains on its own.

The null may gain something too: images are held out of all training, but a latent is read from the very image that it
is judged by, and knows of its noise. A log likelihood ratio scatters from image to image with a variance of
about twice its mean, so over h held-out images the gains g and g_0 differ by chance by about

    s = sqrt(2 (|g| + |g_0|) / h),

and the network is real if g > 0 and g - g_0 > 3 s. It is one null: how much nulls differ among themselves is not known.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.particles import Particles
from cryoformer.particles.stack_writer import StackWriter
from cryoformer.validate.null_images import null_images
from cryoformer.validate.outcome import Outcome

NAME = "null_of_network"
DEVIATIONS = 3.0


@dataclass(frozen=True)
class NetworkGain:
    """What the network of a run says of images held out of its training, at the end."""

    held_out: float
    """Log likelihood gained over the mean density, per image."""
    conditioning: float
    """Spread of the decoded densities over the latents, relative to the density's own."""


def write_null_stack(
    particles: Particles, images: Images, density: Float[Tensor, "d d d"], folder: Path, seed: int
) -> Path:
    """Simulate ``particles.mrcs`` and ``particles.star`` (returned), centred, protein bright, one image per particle.

    ``images`` and ``density`` are at full box. Particles of several boxes, pixel sizes or CTF-multiplied ones cannot be
    written so; see :func:`can_be_simulated`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, box = len(images), images.box
    writer = StackWriter(folder, count, box, np.dtype(np.float16), [images.pixel_size_angstrom], count)
    for rows, some in images.batches(images.every()):
        simulated = null_images(some, density, seed + int(rows[0]))
        writer.write(fourier_to_images(simulated.coefficients, box).cpu().numpy())
    writer.finish()
    star = folder / "particles.star"
    write_particles_star(
        star,
        image_names=[f"{row + 1:06d}@particles.mrcs" for row in range(count)],
        rotations=particles.rotations,
        shifts_angstrom=np.zeros((count, 2)),
        ctf=particles.ctf,
        pixel_size_angstrom=images.pixel_size_angstrom,
        box=box,
        half_set=images.halves.cpu().numpy() + 1,
    )
    return star


def can_be_simulated(particles: Particles) -> bool:
    """Whether all particles share an even box and a pixel size, and none was multiplied by its CTF."""
    one_size = len(np.unique(particles.boxes)) == 1 and np.ptp(particles.pixel_sizes_angstrom) == 0
    return bool(one_size and particles.box % 2 == 0 and not particles.premultiplied.any())


def network_gain(metrics: list[dict[str, Any]]) -> NetworkGain | None:
    """From the lines of ``metrics.jsonl``; None where no epoch was completed."""
    lines = [line for line in metrics if "held_out_gain" in line]
    if not lines:
        return None
    return NetworkGain(float(lines[-1]["held_out_gain"]), float(lines[-1]["conditioning"]))


def network_outcome(observed: NetworkGain, null: NetworkGain, held_out_images: int) -> Outcome:
    """The comparison in words and numbers."""
    deviation = math.sqrt(2.0 * (abs(observed.held_out) + abs(null.held_out)) / held_out_images)
    real = observed.held_out > max(0.0, null.held_out + DEVIATIONS * deviation)
    verb = "predicts" if real else "does not predict"
    return Outcome(
        NAME,
        "holds" if real else "fails",
        f"The network {verb} held-out images better than chance: log likelihood {observed.held_out:+.2f} per "
        f"image over a static density, against {null.held_out:+.2f} when trained on particles that do not move.",
        {
            "held_out_gain": observed.held_out,
            "held_out_gain_null": null.held_out,
            "standard_deviation_of_difference": deviation,
            "held_out_images": held_out_images,
            "conditioning": observed.conditioning,
            "conditioning_null": null.conditioning,
        },
    )
