r"""Free energy along a path, its wells, their populations and the barriers between them, all with intervals.

The penalty is weaker than the one that left-out images like best (:data:`UNDERSMOOTHED`): that one balances noise with
the error that smoothing makes, of which a bootstrap knows nothing, so its intervals would be too narrow. Where images
are read under curves of densities (:mod:`.curve`), one half of them is left out at a time, and each is read under the
curve of the other: the error of a curve is then no feature that both have.

What is fitted so has features that are finer than anything the images can tell, so it is told at a resolution of its
own: populations are smoothed by a Gaussian of 0.7 times the typical uncertainty of a particle's place (the clean beam
of radio astronomy; Hogbom 1974), less than half of the variance that a histogram of estimates would be smeared by.

Intervals are percentiles over bootstrap samples of the particles, each read under one of the two curves, drawn by
chance, so that they hold the errors of the densities too. The smoothness, chosen once, and the error that it makes are
no part of a sample: samples are spread by 1.3 times as much about the estimate as they come out, with which intervals
hold the populations of simulated sets as often as they say, and high barriers less often (docs/free_energy.md).

A well counts if the pass to its neighbour is higher by 1 kT (less holds nothing back), and is above it in all but 2.5 %
of the samples; and if it is as wide as plus and minus the typical uncertainty of a particle's place, because narrower
features, above all at the ends of a path, are what deconvolution makes of small errors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from cryoformer.states.deconvolution import PathLikelihood, choose_smoothness, fit_energy, middles, populations_of

UNDERSMOOTHED = 0.1
RESOLUTION = 0.7
WIDENED = 1.3
BOOTSTRAPS = 200
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
class Well:
    """A well: its lowest place, the places from ``first`` to before ``stop`` that belong to it, and its population."""

    place: int
    first: int
    stop: int
    population: Interval


@dataclass(frozen=True)
class Barrier:
    """A pass between two neighbouring wells: its place, and its height over the left and the right one, in kT."""

    place: int
    over_left: Interval
    over_right: Interval


@dataclass(frozen=True)
class FreeEnergy:
    """F along a path in kT, the lowest at 0, with its 95 % interval place by place.

    Attributes:
        along: place on the path, from 0 to 1.
        populations: share of the particles at each place.
        samples: F of every bootstrap sample, on the same lengths.
        smoothness: the penalty's weight that left-out images like best; scores: their log likelihood for all tried.
        uncertainty: typical standard deviation of a particle's place.
    """

    along: Float[np.ndarray, " m"]
    energy: Float[np.ndarray, " m"]
    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]
    populations: Float[np.ndarray, " m"]
    lengths: Float[np.ndarray, " m"]
    samples: Float[np.ndarray, "b m"]
    smoothness: float
    scores: dict[float, float]
    uncertainty: float
    wells: list[Well]
    barriers: list[Barrier]


def free_energy(
    images: PathLikelihood,
    *,
    readings: list[PathLikelihood] | None = None,
    fold: Int[np.ndarray, " n"] | None = None,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
    progress: Callable[[float], None] = lambda _: None,
) -> FreeEnergy:
    """F, wells and barriers.

    Args:
        images: what the estimate is made from.
        readings: the same images under other densities, one of which each bootstrap sample draws (None: ``images``).
        fold: the part of each image; parts are left out in turn to choose the smoothness (None: by chance).
        bootstraps: number of samples.
        seed: of folds and samples.
    """
    smoothness, scores = choose_smoothness(images, fold, seed)
    weight, count = UNDERSMOOTHED * smoothness, len(images.likelihood)
    fitted = fit_energy(images, weight)
    uncertainty = place_uncertainty(images, fitted)
    smooth = smoothing(images.lengths, RESOLUTION * uncertainty)

    def told(found: np.ndarray) -> np.ndarray:
        """F at the resolution that it is told at."""
        values = -np.log(smooth @ images.populations(found) / images.lengths)
        return np.asarray(values - values.min())

    energy = told(fitted)
    rng, samples = np.random.default_rng(seed), []
    choices = readings or [images]
    for number in range(bootstraps):
        reading = choices[int(rng.integers(len(choices)))]
        counts = rng.multinomial(count, np.full(count, 1.0 / count)).astype(np.float64)
        samples.append(told(fit_energy(reading, weight, counts, fitted)))
        progress((number + 1) / bootstraps)
    drawn = np.stack(samples)
    # A free energy has no zero of its own: samples are laid on the estimate where particles are.
    populations = images.populations(energy)
    drawn = drawn - ((drawn - energy) @ populations)[:, None]
    drawn = energy + WIDENED * (drawn - energy)
    low, high = np.percentile(drawn, LEVELS, axis=0)
    wells, barriers = wells_and_barriers(images.lengths, energy, drawn, 2 * uncertainty)
    return FreeEnergy(
        along=middles(images.lengths),
        energy=energy,
        low=low,
        high=high,
        populations=populations,
        lengths=images.lengths,
        samples=drawn,
        smoothness=smoothness,
        scores=scores,
        uncertainty=uncertainty,
        wells=wells,
        barriers=barriers,
    )


def population_between(found: FreeEnergy, first: int, stop: int) -> Interval:
    """Share of the particles at the places from ``first`` to before ``stop``."""
    share = found.populations[first:stop].sum()
    return _interval(float(share), populations_of(found.samples, found.lengths)[:, first:stop].sum(axis=1))


def wells_and_barriers(
    lengths: np.ndarray, energy: np.ndarray, samples: np.ndarray, least_width: float
) -> tuple[list[Well], list[Barrier]]:
    """Wells that count and the passes between them, of F and its samples; wells are at least so wide, from 0 to 1."""
    lows, passes = _extrema(energy)
    reached = np.cumsum(lengths)
    while passes:
        heights, sure, wide = [], [], []
        for i, top in enumerate(passes):
            pair = lows[i : i + 2]
            heights.append(float(energy[top] - energy[pair].max()))
            sure.append(bool(np.percentile(samples[:, top] - samples[:, pair].max(axis=1), LEVELS[0]) > 0))
            left, right = ([0, *passes, len(energy)][k] for k in (i, i + 2))
            wide.append(min(_between(reached, left, top), _between(reached, top, right)) >= least_width)
        # The least of the passes goes first, with the shallower of its wells.
        least = min(range(len(passes)), key=lambda i: (wide[i], sure[i], heights[i]))
        if heights[least] >= LEAST_BARRIER and sure[least] and wide[least]:
            break
        shallow = least if energy[lows[least]] > energy[lows[least + 1]] else least + 1
        if not wide[least]:
            # A narrow well is the one that goes, however deep it is.
            shallow = least if _between(reached, [0, *passes][least], passes[least]) < least_width else least + 1
        del passes[least], lows[shallow]
    bounds = [0, *passes, len(energy)]
    shares, populations = populations_of(samples, lengths), populations_of(energy, lengths)
    wells = [
        Well(low, first, stop, _interval(float(populations[first:stop].sum()), shares[:, first:stop].sum(axis=1)))
        for low, (first, stop) in zip(lows, pairwise(bounds), strict=True)
    ]
    barriers = [
        Barrier(
            top,
            *(
                _interval(float(energy[top] - energy[low]), samples[:, top] - samples[:, low])
                for low in (lows[i], lows[i + 1])
            ),
        )
        for i, top in enumerate(passes)
    ]
    return wells, barriers


def place_uncertainty(images: PathLikelihood, energy: Float[np.ndarray, " m"]) -> float:
    """Median over the images of the standard deviation of their place on the path, from 0 to 1."""
    along = middles(images.lengths)
    posterior = images.likelihood * images.populations(energy)
    posterior = posterior / posterior.sum(axis=1, keepdims=True)
    variance = posterior @ along**2 - (posterior @ along) ** 2
    return float(np.median(np.sqrt(np.maximum(variance, 0.0))))


def smoothing(lengths: Float[np.ndarray, " m"], deviation: float) -> Float[np.ndarray, "m m"]:
    """Matrix that spreads the share of each place by a Gaussian, thrown back at the ends of the path."""
    along = middles(lengths)
    images = [along, -along, 2.0 - along]
    kernel = sum(np.exp(-0.5 * ((along[:, None] - each) / max(deviation, 1e-9)) ** 2) for each in images)
    kernel = kernel * lengths[:, None] + 1e-300 * np.eye(len(along))
    return np.asarray(kernel / kernel.sum(axis=0))


def _between(reached: np.ndarray, first: int, stop: int) -> float:
    """Length of the places from ``first`` to before ``stop``."""
    return float((reached[stop - 1] if stop else 0.0) - (reached[first - 1] if first else 0.0))


def _extrema(energy: np.ndarray) -> tuple[list[int], list[int]]:
    """Places of all minima (ends included), and of the maximum between each two neighbours."""
    rising = np.diff(energy) > 0
    inner = np.flatnonzero(~rising[:-1] & rising[1:]) + 1
    lows = [*([0] if rising[0] else []), *inner.tolist(), *([] if rising[-1] else [len(energy) - 1])]
    passes = [a + int(energy[a : b + 1].argmax()) for a, b in pairwise(lows)]
    return lows, passes


def _interval(value: float, samples: np.ndarray) -> Interval:
    low, high = np.percentile(samples, LEVELS)
    return Interval(value, float(low), float(high))
