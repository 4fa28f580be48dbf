"""The fields of a cryoSPARC particle file as checked numbers.

A job writes what it changed into one file and the rest into a "passthrough" file beside it; both are joined on the
``uid`` of the particles.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryoformer.errors import InputError
from cryoformer.formats.cryosparc.dataset import join_passthrough, read_dataset

CTF_FIELDS = (
    "ctf/df1_A",
    "ctf/df2_A",
    "ctf/df_angle_rad",
    "ctf/accel_kv",
    "ctf/cs_mm",
    "ctf/amp_contrast",
)
NEEDED_FIELDS = ("blob/path", "blob/idx", "blob/psize_A", *CTF_FIELDS)


class CryosparcTable:
    """The fields of a ``.cs`` file, and of its passthrough file where it lacks some, as checked numbers."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.dataset = read_dataset(source)
        fields = self.dataset.fields()
        posed = any(re.match(r"alignments(3D|_class)\w*/pose$", field) for field in fields)
        if not posed or any(field not in fields for field in NEEDED_FIELDS):
            join_passthrough(self.dataset, source)

    def __len__(self) -> int:
        return len(self.dataset)

    def has(self, field: str) -> bool:
        return field in self.dataset

    def values(self, field: str) -> np.ndarray:
        """A field as it stands in the file, one entry (a number, text or vector) per particle.

        Raises:
            InputError: neither the file nor its passthrough file has it.
        """
        if not self.has(field):
            raise InputError(f"{self.source}: no field {field}; {remedy(field)}")
        return np.asarray(self.dataset[field])

    def numbers(self, field: str, shape: tuple[int, ...] = (), default: float | None = None) -> np.ndarray:
        """A field as float64 of this shape per particle; ``default`` where it is absent.

        Raises:
            InputError: the field is absent and has no default, has another shape, or a value is no finite number.
        """
        if default is not None and not self.has(field):
            return np.full((len(self), *shape), default, dtype=np.float64)
        column = self.values(field)
        if column.dtype.kind not in "iuf" or column.shape[1:] != shape:
            raise InputError(
                f"{self.source}: {field} has entries of shape {column.shape[1:]} and type {column.dtype}, expected "
                f"numbers of shape {shape}; export the particles from cryoSPARC again"
            )
        values = column.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(self), -1)).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.source}: row {bad[0] + 1}: {field} is {values[bad[0]]}, expected finite numbers ({len(bad)} "
                "such rows); correct or remove them"
            )
        return values

    def positive(self, field: str) -> Float[np.ndarray, " n"]:
        """Numbers that must be above 0.

        Raises:
            InputError: one is not; or as for :meth:`numbers`.
        """
        values = self.numbers(field)
        self.check_range(field, values, values > 0, "a value above 0")
        return values

    def check_range(self, field: str, values: np.ndarray, fine: np.ndarray, expected: str) -> None:
        """Raise an InputError that names the first row whose value is not as expected."""
        wrong = np.flatnonzero(~fine)
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"{self.source}: row {row + 1}: {field} is {values[row]:g}, expected {expected}; correct the file"
            )


def remedy(field: str) -> str:
    """What to do in cryoSPARC about a missing field."""
    what = {
        "blob": "export the particles with their images (the blob result)",
        "ctf": "run a CTF estimation and export the particles with the ctf result",
    }.get(field.split("/")[0], "run a 3D refinement and export the particles that it outputs (alignments3D)")
    return f"in cryoSPARC, {what}, or put the job's *_passthrough_particles.cs beside the file"
