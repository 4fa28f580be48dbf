"""Ground truth of a simulated stack: the true states' volumes and which of them every image shows.

A truth folder holds ``truth.npz`` (``t`` [n], the motion coordinate of every image; ``state_t`` [m], that of every
state; optionally ``state`` [n], the state of every image) and ``gt/state_00.mrc`` ..., one volume per state on the grid
of the images. Where several domains move independently, ``coordinates`` [n, c] and ``state_coordinates`` [m, c] hold
all coordinates (and ``t`` the first); where particles differ in composition, ``composition`` [n] and
``state_composition`` [m] say which one they and the states have, ``composition_moves`` [k, c] which coordinates a
composition shows. Without ``state``, an image shows the state of its
composition whose coordinates are nearest to its own. A benchmark's own mask may lie beside as ``mask.mrc``.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume
from cryoformer.imaging.grids import crop_volume

ENTRIES = (
    "t",
    "state_t",
    "state",
    "coordinates",
    "state_coordinates",
    "composition",
    "state_composition",
    "composition_moves",
)
MASK_FILE = "mask.mrc"
KEPT_BYTES = 2**29
"""Volumes are kept in memory up to this size in all."""


@dataclass
class GroundTruth:
    """True states at the box of a run. Volumes are read when asked for; a few are kept."""

    directory: Path
    state_files: list[Path]
    state_t: Float64[np.ndarray, " m"]
    t: Float64[np.ndarray, " n"]
    state_of_image: Int64[np.ndarray, " n"]
    box: int
    pixel_size_angstrom: float
    coordinates: Float64[np.ndarray, "n c"]
    """Of every image; t alone where one thing moves."""
    state_coordinates: Float64[np.ndarray, "m c"]
    composition: Int64[np.ndarray, " n"] | None = None
    """Number of every image's composition, None where there is one."""
    state_composition: Int64[np.ndarray, " m"] | None = None
    composition_moves: Bool[np.ndarray, "k c"] | None = None
    """Which coordinates each composition shows; None: all show all."""
    _kept: dict[int, np.ndarray] = field(init=False, repr=False, default_factory=dict)

    def __len__(self) -> int:
        """Number of states."""
        return len(self.state_files)

    def state(self, index: int) -> Float32[np.ndarray, "d d d"]:
        """True volume [z, y, x] of one state, Fourier-cropped to the run's box. Not to be changed in place.

        Raises:
            InputError: the file is no cube of the run's extent.
        """
        if index not in self._kept:
            volume = self._read_state(index)
            if (len(self._kept) + 1) * volume.nbytes > KEPT_BYTES:
                self._kept.clear()
            self._kept[index] = volume
        return self._kept[index]

    @property
    def occupancies(self) -> Float64[np.ndarray, " m"]:
        """Share of the images that show each state."""
        return np.bincount(self.state_of_image, minlength=len(self)) / len(self.state_of_image)

    @property
    def is_one_motion(self) -> bool:
        """Whether one coordinate says all about an image: one motion, one composition."""
        return self.coordinates.shape[1] == 1 and self.composition is None

    def showing(self, coordinate: int) -> Int64[np.ndarray, " k"]:
        """Images that show a coordinate: those whose composition has the part that moves along it."""
        if self.composition is None or self.composition_moves is None:
            return np.arange(len(self.coordinates))
        return np.flatnonzero(self.composition_moves[self.composition, coordinate])

    @property
    def moves(self) -> bool:
        """Whether coordinates vary; else the images differ in composition alone, or not at all."""
        return bool(np.ptp(self.coordinates, axis=0).any())

    def series(self) -> Int64[np.ndarray, " k"]:
        """States to show one after the other, in the order of their first coordinate.

        The other coordinates stay near their middle and the composition is the commonest one, so that one thing
        changes. Where only the composition varies, all states.
        """
        kept = np.ones(len(self), dtype=bool)
        if self.moves and self.composition is not None and self.state_composition is not None:
            kept &= self.state_composition == np.bincount(self.composition).argmax()
        if self.state_coordinates.shape[1] > 1:
            off = np.abs(self.state_coordinates[:, 1:] - np.median(self.coordinates[:, 1:], axis=0)).max(axis=1)
            kept &= off <= off[kept].min() + 1e-9
        chosen = np.flatnonzero(kept)
        return chosen[np.argsort(self.state_t[chosen], kind="stable")]

    def label(self, state: int) -> str:
        """What a state is: its coordinates, its composition, or both."""
        numbers = ", ".join(f"{value:.2f}" for value in self.state_coordinates[state])
        parts = [f"t = {numbers}"] if self.moves or self.state_composition is None else []
        if self.state_composition is not None:
            parts.insert(0, f"composition {self.state_composition[state] + 1}")
        return ", ".join(parts)

    def states(self) -> Iterator[Float32[np.ndarray, "d d d"]]:
        """All true volumes in order."""
        return (self.state(index) for index in range(len(self)))

    def given_mask(self) -> Float32[np.ndarray, "d d d"] | None:
        """The mask that comes with the truth as ``mask.mrc``, at the run's box; None where there is none.

        Raises:
            InputError: the file is no cube of the run's extent.
        """
        path = self.directory / MASK_FILE
        return self._read_volume(path, is_mask=True) if path.is_file() else None

    def _read_state(self, index: int) -> Float32[np.ndarray, "d d d"]:
        return self._read_volume(self.state_files[index])

    def _read_volume(self, path: Path, is_mask: bool = False) -> Float32[np.ndarray, "d d d"]:
        volume, pixel_size = read_mrc_volume(path)
        size = volume.shape[0]
        if volume.shape != (size, size, size):
            raise InputError(f"{path}: expected a cube, found {volume.shape}")
        if not np.isfinite(volume).all():
            raise InputError(f"{path}: holds values that are not numbers")
        if size < self.box:
            raise InputError(f"{path}: its box of {size} is smaller than the run's {self.box}; simulate at that box")
        expected = self.box * self.pixel_size_angstrom
        if pixel_size > 0 and abs(size * pixel_size - expected) > 0.01 * expected:
            raise InputError(
                f"{path}: {size} pixels of {pixel_size:.4g} A span {size * pixel_size:.1f} A, but the run's {self.box} "
                f"pixels of {self.pixel_size_angstrom:.4g} A span {expected:.1f} A; give the truth of the same stack"
            )
        # A density keeps its sum, a mask its values.
        return crop_volume(volume, self.box, mean=True).clip(0.0, 1.0) if is_mask else crop_volume(volume, self.box)


def load_truth(directory: Path | str, box: int, pixel_size_angstrom: float, particles: int) -> GroundTruth:
    """Open a truth folder for a run of the given box, pixel size and number of particles.

    Raises:
        InputError: a file or entry is missing, or the numbers of particles or of states do not agree.
    """
    directory = Path(directory)
    path = directory / "truth.npz"
    entries = _read_entries(path)
    t = np.asarray(entries["t"], dtype=np.float64)
    state_t = np.asarray(entries["state_t"], dtype=np.float64)
    if t.ndim != 1 or state_t.ndim != 1:
        raise InputError(
            f"{path}: expected t and state_t with one number each, found shapes {t.shape}, {state_t.shape}"
        )
    for name, values in (("t", t), ("state_t", state_t)):
        if not np.isfinite(values).all():
            raise InputError(f"{path}: row {int(np.argmax(~np.isfinite(values)))} of {name} is not a number")
    if len(t) != particles:
        raise InputError(f"{path}: holds {len(t)} particles, the run {particles}; give the truth of the same stack")
    files = sorted((directory / "gt").glob("state_*.mrc"), key=_state_number)
    if not files or len(files) != len(state_t):
        raise InputError(
            f"{directory / 'gt'}: found {len(files)} state_*.mrc, expected {len(state_t)} as in {path.name}"
        )
    coordinates = _coordinates(path, entries, "coordinates", t)
    state_coordinates = _coordinates(path, entries, "state_coordinates", state_t)
    if coordinates.shape[1] != state_coordinates.shape[1]:
        raise InputError(
            f"{path}: {coordinates.shape[1]} coordinates of the particles, {state_coordinates.shape[1]} of the states"
        )
    composition = _numbers(path, entries, "composition", len(t))
    state_composition = _numbers(path, entries, "state_composition", len(files))
    if composition is not None and state_composition is not None:
        if not np.isin(composition, state_composition).all():
            raise InputError(f"{path}: there are particles of a composition that no state has")
    elif composition is not None or state_composition is not None:
        raise InputError(f"{path}: expected `composition` [images] and `state_composition` [states], found one of them")
    shows = entries.get("composition_moves")
    if shows is not None and composition is not None:
        shows = np.asarray(shows, dtype=bool)
        if shows.shape != (len(shows), coordinates.shape[1]) or composition.max() >= len(shows):
            raise InputError(f"{path}: expected `composition_moves` of shape (compositions, {coordinates.shape[1]})")
    state = _numbers(path, entries, "state", len(t), below=len(files))
    if state is None:
        state = _nearest_states(coordinates, state_coordinates, composition, state_composition)
    return GroundTruth(
        directory,
        files,
        state_t,
        t,
        state,
        box,
        pixel_size_angstrom,
        coordinates,
        state_coordinates,
        composition,
        state_composition,
        shows,
    )


def _coordinates(
    path: Path, entries: dict[str, np.ndarray], name: str, first: Float64[np.ndarray, " k"]
) -> Float64[np.ndarray, "k c"]:
    if name not in entries:
        return first[:, None]
    found = np.asarray(entries[name], dtype=np.float64)
    if found.ndim != 2 or len(found) != len(first) or not np.isfinite(found).all():
        raise InputError(f"{path}: expected finite `{name}` of shape ({len(first)}, c), found shape {found.shape}")
    return found


def _numbers(
    path: Path, entries: dict[str, np.ndarray], name: str, count: int, below: int | None = None
) -> Int64[np.ndarray, " k"] | None:
    """Whole numbers from 0 (up to ``below``) of an entry; None where it is not there."""
    if name not in entries:
        return None
    found = np.asarray(entries[name], dtype=np.int64)
    if found.shape != (count,) or found.min() < 0 or (below is not None and found.max() >= below):
        limit = "from 0" if below is None else f"from 0 to {below - 1}"
        raise InputError(f"{path}: expected `{name}` to hold {count} numbers {limit}")
    return found


def _nearest_states(
    coordinates: Float64[np.ndarray, "n c"],
    state_coordinates: Float64[np.ndarray, "m c"],
    composition: Int64[np.ndarray, " n"] | None,
    state_composition: Int64[np.ndarray, " m"] | None,
) -> Int64[np.ndarray, " n"]:
    """The state of the same composition whose coordinates are nearest."""
    distance = np.linalg.norm(coordinates[:, None] - state_coordinates, axis=2)
    if composition is not None and state_composition is not None:
        distance[composition[:, None] != state_composition] = np.inf
    return distance.argmin(axis=1).astype(np.int64)


def _read_entries(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; a truth folder holds truth.npz and gt/state_00.mrc ...")
    try:
        with np.load(path, allow_pickle=False) as archive:
            entries = {name: archive[name] for name in ENTRIES if name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path}: cannot be read as a numpy archive ({error}); write it anew") from error
    for name in ("t", "state_t"):
        if name not in entries:
            raise InputError(f"{path}: has no entry `{name}`; expected t [images] and state_t [states]")
    return entries


def _state_number(path: Path) -> tuple[int, str]:
    digits = re.search(r"(\d+)$", path.stem)
    return (int(digits.group(1)) if digits else -1, path.name)
