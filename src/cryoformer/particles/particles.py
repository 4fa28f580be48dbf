"""Particles: images on disk with a pose, an optics group and a CTF each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Integer

from cryoformer.errors import InputError
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.particles.references import ImageReferences
from cryoformer.particles.stack import ImageStacks


@dataclass(frozen=True)
class ParticleFiles:
    """The files that particles were read from, as they were given.

    Attributes:
        path: particle file, or list of images.
        datadir: folder to look for the image stacks in first.
        poses, ctf: cryoDRGN's files, used instead of what the particle file holds.
    """

    path: Path
    datadir: Path | None = None
    poses: Path | None = None
    ctf: Path | None = None
    no_ctf: bool = False


@dataclass(frozen=True)
class Particles:
    """n particles of a data set, in the order of its file. Metadata lies in memory, images stay on disk.

    Attributes:
        source: the file that lists the particles.
        boxes: image side D per particle in pixels (0 where neither images nor tables say); optics groups may differ.
        pixel_sizes_angstrom: per particle: optics groups may differ.
        rotations: R per particle, volume to image coordinates, float64.
        shifts_angstrom: (x, y) of where the content sits in the image, minus RELION's origin.
        ctf: CTF parameters, one row per particle.
        optics_group: number of each particle's optics group as in the file.
        half_set: 1 or 2 per particle (``rlnRandomSubset``), or None.
        premultiplied: per particle, whether its image was multiplied by its CTF.
        declared_sign: what the file says of the contrast: 1 for white particles, -1 for dark ones, None for nothing.
        references: which image of which file each particle is, as the file says it, or None where it does not.
        stacks: the images, or None where only metadata was asked for.
        files: what they were read from, or None for particles made in memory.
        rows: their rows in the file, where these are not all of it.
        posed: False where the file has no poses and none were asked for; rotations and shifts mean nothing then.
        fingerprint: of the whole file (:mod:`cryoformer.formats.fingerprint`), or None for particles made in memory.
    """

    source: Path
    boxes: Integer[np.ndarray, " n"]
    pixel_sizes_angstrom: Float[np.ndarray, " n"]
    rotations: Float[np.ndarray, "n 3 3"]
    shifts_angstrom: Float[np.ndarray, "n 2"]
    ctf: CTFParameters
    optics_group: Integer[np.ndarray, " n"]
    half_set: Integer[np.ndarray, " n"] | None
    premultiplied: Bool[np.ndarray, " n"]
    declared_sign: int | None
    references: ImageReferences | None
    stacks: ImageStacks | None
    files: ParticleFiles | None = None
    rows: Int[np.ndarray, " n"] | None = None
    posed: bool = True
    fingerprint: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.optics_group)

    @property
    def box(self) -> int:
        """The smallest image side, which is everyone's where there is one optics group."""
        return int(self.boxes.min())

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the first particle, which is everyone's where there is one optics group."""
        return float(self.pixel_sizes_angstrom[0])

    def images(self, indices: Integer[np.ndarray, " b"]) -> Float32[np.ndarray, "b d d"]:
        """Images of these particles (from 0), which must share one box, as on disk.

        Raises:
            InputError: only metadata was loaded, or an image holds NaN or infinite values.
        """
        stacks = self.require_stacks()
        images = stacks.read(indices)
        check_finite(images, indices, stacks, self.source)
        return images

    def require_stacks(self) -> ImageStacks:
        """The image stacks.

        Raises:
            InputError: the particles were loaded without images.
        """
        if self.stacks is None:
            raise InputError(f"{self.source}: loaded without its images; load it with them")
        return self.stacks

    def require_references(self) -> ImageReferences:
        """Which image of which file each particle is.

        Raises:
            InputError: the file does not say.
        """
        if self.references is None:
            raise InputError(f"{self.source}: does not say which images its particles are")
        return self.references

    def subset(self, rows: Integer[np.ndarray, " m"]) -> "Particles":
        """These particles alone, in this order."""
        return Particles(
            source=self.source,
            boxes=self.boxes[rows],
            pixel_sizes_angstrom=self.pixel_sizes_angstrom[rows],
            rotations=self.rotations[rows],
            shifts_angstrom=self.shifts_angstrom[rows],
            ctf=self.ctf[torch.from_numpy(np.array(rows, dtype=np.int64))],
            optics_group=self.optics_group[rows],
            half_set=None if self.half_set is None else self.half_set[rows],
            premultiplied=self.premultiplied[rows],
            declared_sign=self.declared_sign,
            references=None if self.references is None else self.references.subset(rows),
            stacks=None if self.stacks is None else self.stacks.subset(rows),
            files=self.files,
            posed=self.posed,
            fingerprint=self.fingerprint,
            rows=np.array(rows, dtype=np.int64) if self.rows is None else self.rows[rows],
        )


def check_finite(
    images: Float32[np.ndarray, "b d d"], rows: Integer[np.ndarray, " b"], stacks: ImageStacks, source: Path
) -> None:
    """Refuse images (of these rows of a file) with NaN or infinite values.

    Raises:
        InputError: which row and image holds them.
    """
    broken = rows[~finite_images(images)]
    if len(broken):
        row = int(broken[0])
        raise InputError(
            f"{source}: row {row + 1}: image {stacks.name(row)} holds NaN or infinite values; remove the row or "
            "extract the image again"
        )


def finite_images(images: Float32[np.ndarray, "b d d"]) -> Bool[np.ndarray, " b"]:
    """Which images hold neither NaN nor infinite values.

    By their sums, which take one pass and no temporary: float32 pixels cannot overflow a float64 sum.
    """
    with np.errstate(invalid="ignore"):
        return np.isfinite(images.sum(axis=(1, 2), dtype=np.float64))
