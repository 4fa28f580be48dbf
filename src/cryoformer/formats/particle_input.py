"""Which particles a run is of: the file, what belongs to it, and which of its rows."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.errors import InputError
from cryoformer.formats.choose import choose_rows
from cryoformer.formats.fingerprint import changed_pixels, difference, rows_fingerprint
from cryoformer.formats.load import load_particles, open_particle_file
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.particles import Particles
from cryoformer.particles.references import path_ends
from cryoformer.particles.repeats import image_numbers

logger = logging.getLogger(__name__)

# Folders above a run in which its particles are looked for: a project's folder is rarely further away.
LEVELS = 5


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
        no_ctf: that the images have no CTF, or are corrected for it.
    """

    particles: Path
    datadir: Path | None = None
    poses: Path | None = None
    ctf: Path | None = None
    ind: Path | None = None
    random: int | None = None
    half: int | None = None
    no_ctf: bool = False

    def open(self) -> ParticleFile:
        """The file, of whichever kind it is."""
        return open_particle_file(self.particles, self.datadir, poses=self.poses, ctf=self.ctf, no_ctf=self.no_ctf)

    def load(self, seed: int) -> Particles:
        """The particles, which know their rows in the file where not all are used.

        Raises:
            InputError: anything wrong with the files.
        """
        particles = load_particles(self.particles, self.datadir, poses=self.poses, ctf=self.ctf, no_ctf=self.no_ctf)
        if self.ind is None and self.random is None and self.half is None:
            return particles
        rows = choose_rows(
            len(particles),
            particles.half_set,
            ind=self.ind,
            random=self.random,
            half=self.half,
            seed=seed,
            images=image_numbers(particles),
        )
        return particles.subset(rows)

    def facts(self) -> dict[str, Any]:
        """As plain values, for ``config.yaml``; paths are absolute."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in values.items()}

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> "ParticleInput":
        """The inverse of :meth:`facts`."""
        paths = ("particles", "datadir", "poses", "ctf", "ind")
        known: dict[str, Any] = {field.name: facts.get(field.name) for field in fields(ParticleInput)}
        known["no_ctf"] = bool(known["no_ctf"])
        return ParticleInput(**known | {name: Path(known[name]) for name in paths if known[name] is not None})


@dataclass(frozen=True)
class Reopened:
    """The particle file of a run, found again and known to be the same: where it is now, and the file itself."""

    source: ParticleInput
    file: ParticleFile
    recorded: dict[str, Any]

    def read(self, rows_file: Path) -> Particles:
        """The particles of the run, which may be some rows of the file.

        Raises:
            InputError: poses or CTFs are not what they were.
        """
        particles = self.file.read()
        if "rows" in self.recorded:
            other = difference(self.recorded, particles.fingerprint or {})
            if other:
                raise InputError(f"{self.file.path}: {other} than when the run was trained; {PUT_BACK}")
        if not rows_file.exists():
            return particles
        rows = np.load(rows_file, allow_pickle=False)
        if rows.max() >= len(particles):
            raise InputError(f"{self.file.path}: has {len(particles)} rows, the run used row {rows.max() + 1}")
        return particles.subset(rows)


PUT_BACK = "put the original file back, or name it with --particles"


def reopen(
    root: Path, facts: Mapping[str, Any], particles: Path | None = None, datadir: Path | None = None
) -> Reopened:
    """The particle file that the run in folder ``root`` was trained on, wherever it is now.

    It is looked for where it was, and by the ends of its path in the folders above the run, for projects that have
    moved; of several, the one that the run's fingerprint fits is taken. So are pickles and the folder of stacks.

    Args:
        facts: ``config.yaml`` of the run.
        particles, datadir: where the user says that they are now.

    Raises:
        InputError: the file is gone, or is another one by now.
    """
    recorded, known = ParticleInput.from_facts(dict(facts)), facts.get("fingerprint") or {}
    recorded = replace(
        recorded,
        poses=_found_again(root, recorded.poses),
        ctf=_found_again(root, recorded.ctf),
        datadir=datadir or _found_again(root, recorded.datadir),
    )
    places = [particles] if particles is not None else _places(root, recorded.particles)
    there = [place for place in places if place.exists()]
    if not there:
        raise InputError(
            f"{root}: its particles are gone from {places[0]} (also looked for in the folders above the run); put "
            "them back, or say with --particles where they are"
        )
    others = {}
    for place in there:
        source = replace(recorded, particles=place)
        file = source.open()
        others[place] = _other(known, file)
        if not others[place]:
            if place != recorded.particles:
                logger.info("%s: its particles are those of %s", root, place)
            return Reopened(source, file, known)
    place, other = next(iter(others.items()))
    raise InputError(f"{place}: is not the file that {root} was trained on: it {other}; {PUT_BACK}")


def _other(known: dict[str, Any], file: ParticleFile) -> str:
    """How a file differs from the one that a run recorded; "" if it does not, as far as the run says."""
    if "rows" not in known:
        return ""
    references = file.references
    return difference(known, rows_fingerprint(references)) or changed_pixels(
        known.get("pixels", {}), references, file.path, file.datadir
    )


def _places(root: Path, path: Path) -> list[Path]:
    """Where a path that a run recorded may lead to now."""
    above = root.resolve().parents
    return [path, *(folder / end for end in path_ends(path) for folder in above[:LEVELS])]


def _found_again(root: Path, path: Path | None) -> Path | None:
    return None if path is None else next((place for place in _places(root, path) if place.exists()), path)
