"""What a particle file holds, in a few lines: what one looks at before anything is started."""

from collections.abc import Iterator

import numpy as np

from cryoformer.particles.particles import Particles
from cryoformer.particles.repeats import image_numbers


def summary(particles: Particles) -> Iterator[str]:
    """One line each on images, optics, defocus, poses and half-sets."""
    yield f"{particles.source}: {_images(particles)}"
    ctf = {name: np.asarray(value, dtype=np.float64) for name, value in vars(particles.ctf).items()}
    groups = len(np.unique(particles.optics_group))
    lens = (("voltage_kv", "kV"), ("spherical_aberration_mm", "mm Cs"), ("amplitude_contrast", "amplitude contrast"))
    optics = ", ".join(f"{_range(ctf[name])} {unit}" for name, unit in lens)
    yield f"optics: {groups} group{'s' * (groups != 1)}, {optics}"
    defocus = (ctf["defocus_u_angstrom"] + ctf["defocus_v_angstrom"]) / 2e4
    if (defocus == 0).all():
        yield "CTF: none, taken as 1" if (ctf["amplitude_contrast"] == 1).all() else "CTF: without defocus"
    else:
        low, high = np.percentile(defocus, [1, 99])
        yield f"defocus: {low:.2f} to {high:.2f} um (but for a hundredth at both ends)"
    done = int(particles.premultiplied.sum())
    if done:
        which = "all" if done == len(particles) else f"{done:,}"
        yield f"{which} images were multiplied by their CTF, as the file says"
    if not particles.posed:
        yield "poses: none; cryoformer abinitio finds them"
    else:
        origin = float(np.percentile(np.linalg.norm(particles.shifts_angstrom, axis=1), 99))
        yield f"poses: there, with centres up to {origin:.1f} A off"
    if particles.half_set is None:
        yield "half-sets: none in the file; they are drawn by --seed"
    else:
        numbers, counts = np.unique(particles.half_set, return_counts=True)
        yield "half-sets: " + ", ".join(f"{count:,} of {number}" for number, count in zip(numbers, counts, strict=True))


def _images(particles: Particles) -> str:
    images = int(image_numbers(particles).max(initial=-1)) + 1
    stacks = len(particles.references.paths) if particles.references is not None else 1
    shown = "" if images == len(particles) else f" of {images:,} images"
    boxes, sizes = _range(particles.boxes), _range(particles.pixel_sizes_angstrom)
    where = f"in {stacks:,} stack{'s' * (stacks != 1)}"
    return f"{len(particles):,} particles{shown} {where}, {boxes} pixels of {sizes} A"


def _range(values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g}" if high - low <= 1e-4 * abs(high) else f"{low:.4g} to {high:.4g}"
