"""What a particle file is, whatever it is called and wherever it lies: the images of its rows, in their order.

A run keeps numbers of rows (of its latents, its halves, its selections), so it must meet the same rows again. Folders
do not count, for projects move; the names of stacks and the numbers in them do. Poses and CTFs are told by a few sums
that rounding does not change, so that a file which another program has formatted anew is still the same.
"""

import hashlib
from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences

# Largest change of a sum, per root of the values in it: a thousandth of a radian, Angstrom or 1,000 A of defocus.
SAME = 1e-3


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
