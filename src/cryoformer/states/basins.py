"""Wells of a free energy and the passes between them, on a path or on a plane.

Every place belongs to the minimum that the steepest way down leads to, and the pass between two wells is the lowest
place at which one can cross from one to the other. Wells that are not certain are joined to a neighbour, the least
certain first.

A well counts if the pass to its neighbour is higher by 1 kT (less holds nothing back), and is above it in all but 2.5 %
of the samples; and if it is as large as plus and minus the typical uncertainty of a particle's place, because narrower
features, above all at the ends of a path, are what deconvolution makes of small errors.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

LEVELS = (2.5, 97.5)
LEAST_BARRIER = 1.0


@dataclass(frozen=True)
class Interval:
    """An estimate, and where it is to 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Basin:
    """A well: its lowest place, and which places belong to it."""

    place: int
    places: Bool[np.ndarray, " m"]


@dataclass(frozen=True)
class Pass:
    """A pass: its place, and the numbers of the two wells that it joins, from 0."""

    place: int
    wells: tuple[int, int]


def interval(value: float, samples: Float[np.ndarray, " b"]) -> Interval:
    """To 95 %, from samples."""
    low, high = np.percentile(samples, LEVELS)
    return Interval(value, float(low), float(high))


def neighbours(shape: tuple[int, ...]) -> Int[np.ndarray, "e 2"]:
    """All pairs of neighbouring places of a path (m,) or a plane (a, b), where diagonals count."""
    numbers = np.arange(np.prod(shape)).reshape(shape)
    pairs = [(numbers[:-1], numbers[1:])]
    if len(shape) == 2:
        pairs += [(numbers[:, :-1], numbers[:, 1:])]
        pairs += [(numbers[:-1, :-1], numbers[1:, 1:]), (numbers[:-1, 1:], numbers[1:, :-1])]
    return np.concatenate([np.stack([one.ravel(), other.ravel()], axis=1) for one, other in pairs])


def basins_and_passes(
    shape: tuple[int, ...],
    sizes: Float[np.ndarray, " m"],
    energy: Float[np.ndarray, " m"],
    samples: Float[np.ndarray, "b m"],
    least_size: float,
) -> tuple[list[Basin], list[Pass]]:
    """Wells that count, in the order of their places, and the passes between those that are neighbours.

    Args:
        shape: of the path or plane.
        sizes: of the piece that each place stands for, of all being 1.
        samples: of the energy.
        least_size: of a well.
    """
    pairs = neighbours(shape)
    label = _downhill(energy, pairs)
    lows = {int(place): int(place) for place in np.unique(label)}
    while True:
        passes = _passes(energy, pairs, label, lows)
        judged, narrow = {}, {}
        for wells, top in passes.items():
            pair = [lows[well] for well in wells]
            above = _crossing(samples, pairs, label, wells) - samples[:, pair].max(axis=1)
            sure = bool(np.percentile(above, LEVELS[0]) > 0)
            # Up to the pass: whose side the pass itself is on, is chance.
            below = [float(sizes[(label == well) & (energy < energy[top])].sum()) for well in wells]
            narrow[wells] = [well for well, size in zip(wells, below, strict=True) if size < least_size]
            judged[wells] = (not narrow[wells], sure, float(energy[top] - energy[pair].max()))
        # The least of the passes goes first, with the shallower of its wells.
        least = min(passes, key=lambda wells: judged[wells], default=None)
        if least is None or judged[least] >= (True, True, LEAST_BARRIER):
            break
        gone = max(least, key=lambda well: energy[lows[well]])
        if narrow[least]:
            # A narrow well is the one that goes, however deep it is; of two, the deeper, which leaves lower barriers.
            gone = min(narrow[least], key=lambda well: energy[lows[well]])
        label[label == gone] = least[0] if gone == least[1] else least[1]
        del lows[gone]
    kept = sorted(lows, key=lambda well: lows[well])
    number = {well: i for i, well in enumerate(kept)}
    joined = [Pass(top, (number[a], number[b])) for (a, b), top in passes.items()]
    return [Basin(lows[well], label == well) for well in kept], _direct(joined, energy)


def _direct(passes: list[Pass], energy: Float[np.ndarray, " m"]) -> list[Pass]:
    """In the order of their wells, without those that a way over a third well avoids."""
    height = {wells: energy[one.place] for one in passes for wells in (one.wells, one.wells[::-1])}
    wells = {well for one in passes for well in one.wells}

    def avoided(one: Pass) -> bool:
        a, b = one.wells
        over = [max(height[a, c], height[c, b]) for c in wells if (a, c) in height and (c, b) in height]
        return bool(min(over, default=np.inf) < height[a, b])

    return sorted((one for one in passes if not avoided(one)), key=lambda one: one.wells)


def _crossing(
    samples: Float[np.ndarray, "b m"],
    pairs: Int[np.ndarray, "e 2"],
    label: Int[np.ndarray, " m"],
    wells: tuple[int, int],
) -> Float[np.ndarray, " b"]:
    """The lowest crossing between two wells in every sample, wherever it is there."""
    sides = label[pairs]
    between = pairs[(sides == wells).all(axis=1) | (sides == wells[::-1]).all(axis=1)]
    return np.asarray(samples[:, between].max(axis=2).min(axis=1))


def _downhill(energy: Float[np.ndarray, " m"], pairs: Int[np.ndarray, "e 2"]) -> Int[np.ndarray, " m"]:
    """The minimum that the steepest way down from each place leads to."""
    down = np.arange(len(energy))
    for one, other in (*pairs.tolist(), *pairs[:, ::-1].tolist()):
        # Equal energies are put in the order of their numbers, so that no way goes in a circle.
        if (energy[other], other) < (energy[down[one]], down[one]):
            down[one] = other
    while not np.array_equal(down, down[down]):
        down = down[down]
    return down


def _passes(
    energy: Float[np.ndarray, " m"], pairs: Int[np.ndarray, "e 2"], label: Int[np.ndarray, " m"], lows: dict[int, int]
) -> dict[tuple[int, int], int]:
    """Between every two wells that touch, in the order of their lowest places, the place of the lowest crossing."""
    found: dict[tuple[int, int], int] = {}
    for one, other in pairs[label[pairs[:, 0]] != label[pairs[:, 1]]].tolist():
        wells = (int(label[one]), int(label[other]))
        wells = wells if lows[wells[0]] < lows[wells[1]] else wells[::-1]
        top = one if energy[one] >= energy[other] else other
        if wells not in found or energy[top] < energy[found[wells]]:
            found[wells] = top
    return found
