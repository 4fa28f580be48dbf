"""Which particles a run is of: the file, what belongs to it, and which of its rows."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.errors import InputError
from cryoformer.formats.choose import choose_rows
from cryoformer.formats.load import load_particles, open_particle_file
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.particles import Particles


@dataclass(frozen=True)
class ParticleInput:
    """What the user gave.

    Attributes:
        particles: particle file.
        datadir: folder to look for the image stacks in first.
        poses, ctf: cryoDRGN's files, used instead of what the particle file holds.
        ind: file of rows to use, from 0.
        random: how many rows to draw.
        half: half-set to use, 1 or 2.
    """

    particles: Path
    datadir: Path | None = None
    poses: Path | None = None
    ctf: Path | None = None
    ind: Path | None = None
    random: int | None = None
    half: int | None = None

    def open(self) -> ParticleFile:
        """The file, of whichever kind it is."""
        return open_particle_file(self.particles, self.datadir, poses=self.poses, ctf=self.ctf)

    def load(self, seed: int) -> Particles:
        """The particles, which know their rows in the file where not all are used.

        Raises:
            InputError: anything wrong with the files.
        """
        particles = self._load()
        if self.ind is None and self.random is None and self.half is None:
            return particles
        rows = choose_rows(
            len(particles), particles.half_set, ind=self.ind, random=self.random, half=self.half, seed=seed
        )
        return particles.subset(rows)

    def load_again(self, rows_file: Path) -> Particles:
        """The particles of a run that began with this input, with the rows that it wrote down.

        Raises:
            InputError: the files are not what they were.
        """
        particles = self._load()
        if not rows_file.exists():
            return particles
        rows = np.load(rows_file, allow_pickle=False)
        if rows.max() >= len(particles):
            raise InputError(f"{self.particles}: has {len(particles)} rows, the run used row {rows.max() + 1}")
        return particles.subset(rows)

    def _load(self) -> Particles:
        return load_particles(self.particles, self.datadir, poses=self.poses, ctf=self.ctf)

    def facts(self) -> dict[str, Any]:
        """As plain values, for ``config.yaml``; paths are absolute."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in values.items()}

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> "ParticleInput":
        """The inverse of :meth:`facts`."""
        paths = ("particles", "datadir", "poses", "ctf", "ind")
        known: dict[str, Any] = {field.name: facts.get(field.name) for field in fields(ParticleInput)}
        return ParticleInput(**known | {name: Path(known[name]) for name in paths if known[name] is not None})
