"""Numbers that cannot be what their columns say: wrong units, shifted columns, poses that never were refined.

One check for every kind of particle file and every command that reads poses or CTF. What would spoil the result is an
error; what may be meant is one warning. Both name the first row and the likely cause. Ranges are wide: they bound what
a microscope can do, not what a good data set has.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cryoformer.errors import InputError
from cryoformer.particles.particles import Particles
from cryoformer.particles.repeats import image_numbers

logger = logging.getLogger(__name__)

# What a file calls each quantity, where it has no names of its own.
NAMES = {
    "voltage": "the voltage",
    "cs": "the spherical aberration",
    "contrast": "the amplitude contrast",
    "defocus": "the defocus",
    "defocus_angle": "the defocus angle",
    "phase_shift": "the phase shift",
    "b_factor": "the B-factor",
    "pixel_size": "the pixel size",
    "shift": "the shift",
    "half_set": "the half-set",
}
# A share of the rows beyond this is no accident.
FEW = 0.25
# Half boxes that no shift ever is.
ABSURD = 20
SMALLEST_HALF = 0.1
LEAST_POSES = 10


@dataclass(frozen=True)
class Finding:
    """Rows whose value cannot be, and what to say of it."""

    rows: Bool[np.ndarray, " n"]
    name: str
    values: Float[np.ndarray, " n"]
    unit: str
    cause: str
    fatal: bool = True


def check_metadata(particles: Particles, names: Mapping[str, str] | None = None) -> None:
    """Look at every optical and geometric number of some particles.

    Args:
        names: what their file calls a quantity (a key of :data:`NAMES`).

    Raises:
        InputError: a number that cannot be, with its row and the likely cause.
    """
    called = NAMES | dict(names or {})
    for finding in (*_optics(particles, called), *_geometry(particles, called)):
        wrong = np.flatnonzero(finding.rows)
        if not len(wrong):
            continue
        text = (
            f"{particles.source}: row {wrong[0] + 1}: {finding.name} is {finding.values[wrong[0]]:.6g}{finding.unit} "
            f"({len(wrong)} of {len(particles)} rows): {finding.cause}"
        )
        if finding.fatal:
            raise InputError(f"{text}; correct the file")
        logger.warning(text)
    for say in (_one_direction, _repeated_images, _uneven_halves):
        sentence = say(particles, called)
        if sentence:
            logger.warning("%s: %s", particles.source, sentence)


def _optics(particles: Particles, called: Mapping[str, str]) -> Iterator[Finding]:
    ctf = {name: np.asarray(value, dtype=np.float64) for name, value in vars(particles.ctf).items()}
    u, v, kv = ctf["defocus_u_angstrom"], ctf["defocus_v_angstrom"], ctf["voltage_kv"]
    contrast = ctf["amplitude_contrast"]
    # CTF = 1, for images without: an amplitude contrast of 1 at no defocus.
    has_ctf = ~((u == 0) & (v == 0) & (contrast == 1))

    def where(wrong: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        return wrong & has_ctf

    yield Finding(where((kv < 10) | (kv > 3000)), called["voltage"], kv, " kV",
                  "in volts or megavolts? Kilovolts are expected, such as 300")  # fmt: skip
    cs = ctf["spherical_aberration_mm"]
    yield Finding(where((cs < -10) | (cs > 20)), called["cs"], cs, " mm",
                  "in micrometres or Angstrom? Millimetres are expected, such as 2.7")  # fmt: skip
    yield Finding(where((np.abs(cs) > 5e-4) & (np.abs(cs) < 5e-3)), called["cs"], cs, " mm",
                  "in metres? Millimetres are expected, such as 2.7 (this is fine behind a corrector)",
                  fatal=False)  # fmt: skip
    yield Finding(where((contrast < 0) | (contrast >= 1)), called["contrast"], contrast, "",
                  "in percent? A fraction from 0 to below 1 is expected, such as 0.1")  # fmt: skip
    largest, smallest = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    in_focus = (u == 0) & (v == 0)
    yield Finding(where(~in_focus & (smallest < 50)), called["defocus"], np.where(np.abs(u) < 50, u, v), " A",
                  "in micrometres, or a column shifted? Angstrom are expected, such as 15000")  # fmt: skip
    yield Finding(where(largest > 1e6), called["defocus"], np.where(np.abs(u) > 1e6, u, v), " A",
                  "not in Angstrom, such as 15000?")  # fmt: skip
    negative = where((u < 0) | (v < 0))
    yield Finding(negative, called["defocus"], np.where(u < 0, u, v), " A",
                  "overfocus, or the other sign convention? Underfocus is positive",
                  fatal=bool(negative.mean() > 0.5))  # fmt: skip
    yield Finding(where(in_focus), called["defocus"], u, " A",
                  "was its CTF not estimated? (for images without CTF: --no-ctf)", fatal=False)  # fmt: skip
    dark = where(~in_focus & (largest < 1000) & (smallest >= 50))
    yield Finding(dark, called["defocus"], u, " A", "in nanometres? Angstrom are expected, such as 15000",
                  fatal=False)  # fmt: skip
    yield Finding(where((largest > 1.5e5) & (largest <= 1e6)), called["defocus"], u, " A",
                  "that is more than 15 micrometres; not in Angstrom?", fatal=False)  # fmt: skip
    likely = ~negative & (smallest >= 50) & (largest <= 1.5e5)
    yield Finding(where(likely & (largest - smallest > np.maximum(3000, 0.5 * largest))), called["defocus"],
                  np.where(u < v, u, v), " A", "less than half of the other one; in another unit, or a column shifted?",
                  fatal=False)  # fmt: skip
    angle = ctf["defocus_angle_degrees"]
    yield Finding(where(np.abs(angle) > 361), called["defocus_angle"], angle, " degrees",
                  "no angle; a column shifted, or degrees where radians are meant?")  # fmt: skip
    phase = ctf["phase_shift_degrees"]
    yield Finding(where(np.abs(phase) > 361), called["phase_shift"], phase, " degrees",
                  "no phase shift; a column shifted, or degrees where radians are meant?")  # fmt: skip
    small = where((phase > 0.3) & (phase <= 3.2)) & bool(phase.max(initial=0) <= 3.2)
    yield Finding(small, called["phase_shift"], phase, " degrees", "in radians? Degrees are expected, such as 90",
                  fatal=False)  # fmt: skip
    b_factor = ctf["b_factor_angstrom2"]
    yield Finding(where(b_factor < 0), called["b_factor"], b_factor, " A^2",
                  "a negative one makes the CTF larger than 1; are these the images of a tilt series (dose-weighted by "
                  "B-factors)? They are not supported")  # fmt: skip
    yield Finding(where(b_factor > 1e5), called["b_factor"], b_factor, " A^2", "nothing is left of the image")


def _geometry(particles: Particles, called: Mapping[str, str]) -> Iterator[Finding]:
    sizes = particles.pixel_sizes_angstrom
    yield Finding((sizes < 0.05) | (sizes > 200), called["pixel_size"], sizes, " A",
                  "not in Angstrom, such as 1.06?")  # fmt: skip
    yield Finding((sizes >= 0.05) & (sizes < 0.25), called["pixel_size"], sizes, " A",
                  "in nanometres? Angstrom are expected", fatal=False)  # fmt: skip
    half_box = np.where(particles.boxes > 0, particles.boxes * sizes / 2, np.inf)
    shift = np.abs(particles.shifts_angstrom).max(axis=1, initial=0)
    outside = shift > half_box
    far = bool((shift > ABSURD * half_box).any() or (len(shift) >= LEAST_POSES and outside.mean() > FEW))
    yield Finding(outside, called["shift"], shift, " A",
                  "more than half the box, so that the particle is not in its image; in the wrong unit, or a column "
                  "shifted?", fatal=far)  # fmt: skip


def _one_direction(particles: Particles, called: Mapping[str, str]) -> str:
    """Poses that are all the same, or turn in the plane of the image alone."""
    rotations = particles.rotations
    if len(particles) < LEAST_POSES or not particles.posed:
        return ""
    if np.abs(rotations - rotations[:1]).max() < 1e-4:
        return f"all {len(particles)} particles have one orientation; were they refined in 3D?"
    if np.abs(rotations[:, 2] - rotations[:1, 2]).max() < 1e-4:
        return f"all {len(particles)} particles are seen from one direction (2D alignments?); were they refined in 3D?"
    return ""


def _repeated_images(particles: Particles, called: Mapping[str, str]) -> str:
    """Rows that name an image again."""
    if particles.references is None:
        return ""
    numbers = image_numbers(particles)
    if numbers.max(initial=-1) + 1 == len(particles):
        return ""
    _, first, number = np.unique(numbers, return_index=True, return_inverse=True)
    first_row = first[number]
    again = np.flatnonzero(first_row != np.arange(len(particles)))
    same_pose = np.abs(particles.rotations[again] - particles.rotations[first_row[again]]).max(axis=(1, 2)) < 1e-6
    exact = f", {int(same_pose.sum())} of them with the same pose" if same_pose.any() else ""
    text = (
        f"{len(again)} of {len(particles)} rows repeat an image (row {again[0] + 1} is row {first_row[again[0]] + 1} "
        f"again{exact}); they count as one image when halves are drawn; remove duplicates if they are not meant"
    )
    if particles.half_set is not None:
        torn = int((particles.half_set[again] != particles.half_set[first_row[again]]).sum())
        if torn:
            text += f"; {called['half_set']} puts {torn} of them into the other half: they go where the first one is"
    return text


def _uneven_halves(particles: Particles, called: Mapping[str, str]) -> str:
    if particles.half_set is None:
        return ""
    counts = [int((particles.half_set == number).sum()) for number in (1, 2)]
    if min(counts) >= SMALLEST_HALF * sum(counts):
        return ""
    small = 1 + int(np.argmin(counts))
    rows = np.flatnonzero(particles.half_set == small)
    which = f" (the first in row {rows[0] + 1})" if len(rows) else ""
    return (
        f"{called['half_set']} puts {counts[0]} particles into half 1 and {counts[1]} into half 2{which}: half maps of "
        "such halves say nothing; take the column out to have halves drawn"
    )
