"""What a particle file is, whatever it is called and wherever it lies: the images of its rows, in their order.

A run keeps numbers of rows (of its latents, its halves, its selections), so it must meet the same rows again. Folders
do not count, for projects move; the names of stacks and the numbers in them do. Poses and CTFs are told by a few sums
that rounding does not change, so that a file which another program has formatted anew is still the same.

A stack can be written anew under its old name, so a few images have marks too: the signs of their lowest Fourier
coefficients, which no change of scale, number format or box alters, and of which other images share half.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from cryoformer.errors import InputError
from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences, find_stack
from cryoformer.particles.stack import read_stack, read_stack_header

# Largest change of a sum, per root of the values in it: a thousandth of a radian, Angstrom or 1,000 A of defocus.
SAME = 1e-3
# Images with marks, the frequencies that these are of (up to so many periods a box), and the share of the signs that
# may differ: of two images, 28 of 56 do, with a deviation of 3.7.
MARKED = 8
PERIODS = 4
OTHER_SIGNS = 0.25


def rows_fingerprint(references: ImageReferences) -> dict[str, Any]:
    """Number of rows, and a hash of the images that they name."""
    names = [path.replace("\\", "/").rsplit("/", 1)[-1] for path in references.paths]
    digest = hashlib.sha256("\n".join(names).encode())
    for numbers in (references.path_of_row, references.index_of_row):
        digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
    return {"rows": len(references), "images": digest.hexdigest()[:32]}


def fingerprint(particles: Particles) -> dict[str, Any]:
    """Of all particles of a file: their images, poses and CTFs."""
    known = {"rows": len(particles)} if particles.references is None else rows_fingerprint(particles.references)
    defocus = np.stack([np.asarray(particles.ctf.defocus_u_angstrom), np.asarray(particles.ctf.defocus_v_angstrom)], 1)
    values = (particles.rotations.reshape(-1, 9), particles.shifts_angstrom, defocus.astype(np.float64) / 1000)
    return known | {"poses": [round(_sum(table), 6) for table in values]}


def difference(recorded: dict[str, Any], found: dict[str, Any]) -> str:
    """How a file differs from the one that was recorded, in words that follow "it"; "" if it does not.

    What only one of them says is not compared.
    """
    if recorded["rows"] != found["rows"]:
        return f"has {found['rows']} particles, not {recorded['rows']}"
    if recorded.get("images") != found.get("images"):
        return "has other images in its rows, or in another order"
    sums = zip(recorded.get("poses", []), found.get("poses", []), (9, 2, 2), strict=False)
    if any(abs(one - other) > SAME * np.sqrt(width * found["rows"]) + 1e-5 for one, other, width in sums):
        return "has other poses or other CTFs"
    return ""


def _sum(table: Float[np.ndarray, "n c"]) -> float:
    """With weights of a normal distribution, so that no two changes cancel."""
    return float((table * np.random.default_rng(0).standard_normal(table.shape)).sum())


def pixel_marks(particles: Particles) -> dict[str, str]:
    """The marks of a few images, evenly over these particles, by their rows in the file."""
    places = np.unique(np.linspace(0, len(particles) - 1, MARKED).round().astype(np.int64))
    rows = places if particles.rows is None else particles.rows[places]
    stacks = particles.require_stacks()
    return {str(row): _mark(stacks.read(places[i : i + 1])[0]).tobytes().hex() for i, row in enumerate(rows)}


def changed_pixels(
    recorded: dict[str, str], references: ImageReferences, source: Path, datadir: Path | None = None
) -> str:
    """Which images are no longer those that were marked, in words that follow "it"; "" for none.

    Images that are not on this machine, or cannot be read, are left to whoever needs them.
    """
    other = []
    for row, mark in ((int(number), text) for number, text in recorded.items()):
        place = find_stack(references.paths[references.path_of_row[row]], source, datadir)
        try:
            image = None if place is None else _image(place, int(references.index_of_row[row]))
        except InputError:
            image = None
        if image is not None and _share_that_differs(mark, _mark(image)) > OTHER_SIGNS:
            other.append(row)
    return f"has other pixels in row {other[0] + 1} ({len(other)} of {len(recorded)} rows looked at)" if other else ""


def _image(stack: Path, index: int) -> Float32[np.ndarray, "d d"] | None:
    header = read_stack_header(stack)
    return read_stack(header, np.array([index]))[0] if index < header.count else None


def _mark(image: Float32[np.ndarray, "d d"]) -> UInt8[np.ndarray, " b"]:
    """The signs of the real and imaginary parts, with the origin in the middle, where cropping leaves it."""
    side = image.shape[0]
    even = image[: side - side % 2, : side - side % 2]
    most = min(PERIODS, (side - 1) // 2)
    found = np.fft.rfft2(np.fft.ifftshift(even))[np.arange(1 - most, most), 1 : most + 1]
    return np.packbits(np.concatenate([found.real.ravel() > 0, found.imag.ravel() > 0]))


def _share_that_differs(mark: str, other: UInt8[np.ndarray, " b"]) -> float:
    known = np.frombuffer(bytes.fromhex(mark), dtype=np.uint8)
    return float(np.unpackbits(known ^ other).mean()) if known.shape == other.shape else 0.0
