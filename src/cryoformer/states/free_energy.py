r"""Free energy along a path or on a plane, its wells, their populations and the barriers between them, with intervals.

The penalty is weaker than the one that left-out images like best (:data:`UNDERSMOOTHED`): that one balances noise with
the error that smoothing makes, of which a bootstrap knows nothing, so its intervals would be too narrow. Where images
are read under curves of densities (:mod:`.curve`), one half of them is left out at a time, and each is read under the
curve of the other: the error of a curve is then no feature that both have.

What is fitted so has features that are finer than anything the images can tell, so it is told at a resolution of its
own: populations are smoothed by a Gaussian of 0.7 times the typical uncertainty of a particle's place (the clean beam
of radio astronomy; Hogbom 1974), less than half of the variance that a histogram of estimates would be smeared by.

Intervals are percentiles over bootstrap samples of the particles, each read under one of the two curves, drawn by
chance, so that they hold the errors of the densities too, and each under the smoothness that its own images choose:
chosen once, half of what barriers scatter by is missing. What smoothing itself does is no part of a sample: samples are
spread by 1.3 times as much about the estimate as they come out, with which intervals hold the truth of simulated sets
about as often as they say (docs/free_energy.md).

Which wells count is said in :mod:`.basins`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cryoformer.states.basins import LEVELS, Interval, basins_and_passes, interval
from cryoformer.states.deconvolution import SMOOTHNESS, PlaceLikelihood, choose_smoothness, fit_energy, populations_of

UNDERSMOOTHED = 0.1
RESOLUTION = 0.7
WIDENED = 1.3
BOOTSTRAPS = 200


@dataclass(frozen=True)
class Well:
    """A well: its lowest place, the places that belong to it, and its population."""

    place: int
    places: Bool[np.ndarray, " m"]
    population: Interval


@dataclass(frozen=True)
class Barrier:
    """A pass between two neighbouring wells (numbered from 0): its place, and its height over either, in kT."""

    place: int
    wells: tuple[int, int]
    over_first: Interval
    over_second: Interval


@dataclass(frozen=True)
class FreeEnergy:
    """F in kT, the lowest at 0, with its 95 % interval place by place.

    Attributes:
        shape: of the path (m,) or the plane (a, b), whose places are numbered row by row.
        positions: of the places, every axis from 0 to 1.
        populations: share of the particles at each place.
        sizes: of the piece that each place stands for.
        samples: F of every bootstrap sample.
        smoothness: the penalty's weight that left-out images like best; scores: their log likelihood for all tried.
        uncertainty: typical standard deviation of a particle's place, along every axis.
    """

    shape: tuple[int, ...]
    positions: Float[np.ndarray, "m d"]
    energy: Float[np.ndarray, " m"]
    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]
    populations: Float[np.ndarray, " m"]
    sizes: Float[np.ndarray, " m"]
    samples: Float[np.ndarray, "b m"]
    smoothness: float
    scores: dict[float, float]
    uncertainty: Float[np.ndarray, " d"]
    wells: list[Well]
    barriers: list[Barrier]

    @property
    def along(self) -> Float[np.ndarray, " m"]:
        """Place on a path, from 0 to 1."""
        return self.positions[:, 0]


def free_energy(
    images: PlaceLikelihood,
    *,
    readings: list[PlaceLikelihood] | None = None,
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
    smooth = smoothing(images.positions, images.sizes, RESOLUTION * uncertainty)

    def told(found: np.ndarray) -> np.ndarray:
        """F at the resolution that it is told at."""
        values = -np.log(smooth @ images.populations(found) / images.sizes)
        return np.asarray(values - values.min())

    energy = told(fitted)
    rng, samples = np.random.default_rng(seed), []
    choices = readings or [images]
    for number in range(bootstraps):
        reading = choices[int(rng.integers(len(choices)))]
        counts = rng.multinomial(count, np.full(count, 1.0 / count)).astype(np.float64)
        # Its own smoothness, which the images of another sample would have chosen too.
        own = UNDERSMOOTHED * SMOOTHNESS[int((counts @ scores).argmax())]
        samples.append(told(fit_energy(reading, own, counts, fitted)))
        progress((number + 1) / bootstraps)
    drawn = np.stack(samples)
    # A free energy has no zero of its own: samples are laid on the estimate where particles are.
    populations = images.populations(energy)
    drawn = drawn - ((drawn - energy) @ populations)[:, None]
    drawn = energy + WIDENED * (drawn - energy)
    low, high = np.percentile(drawn, LEVELS, axis=0)
    wells, barriers = wells_and_barriers(images, energy, drawn, float(np.prod(2 * uncertainty)))
    return FreeEnergy(
        shape=images.shape,
        positions=images.positions,
        energy=energy,
        low=low,
        high=high,
        populations=populations,
        sizes=images.sizes,
        samples=drawn,
        smoothness=smoothness,
        scores=dict(zip(SMOOTHNESS, scores.mean(axis=0).tolist(), strict=True)),
        uncertainty=uncertainty,
        wells=wells,
        barriers=barriers,
    )


def population_of(found: FreeEnergy, places: Bool[np.ndarray, " m"]) -> Interval:
    """Share of the particles at these places."""
    shares = populations_of(found.samples, found.sizes)[:, places].sum(axis=1)
    return interval(float(found.populations[places].sum()), shares)


def wells_and_barriers(
    images: PlaceLikelihood, energy: np.ndarray, samples: np.ndarray, least_size: float
) -> tuple[list[Well], list[Barrier]]:
    """Wells that count and the passes between them, of F and its samples; wells are at least so large, of 1."""
    basins, passes = basins_and_passes(images.shape, images.sizes, energy, samples, least_size)
    shares, populations = populations_of(samples, images.sizes), images.populations(energy)
    wells = [
        Well(one.place, one.places, interval(float(populations[one.places].sum()), shares[:, one.places].sum(axis=1)))
        for one in basins
    ]
    barriers = []
    for one in passes:
        over = [
            interval(float(energy[one.place] - energy[low]), samples[:, one.place] - samples[:, low])
            for low in (wells[number].place for number in one.wells)
        ]
        barriers.append(Barrier(one.place, one.wells, *over))
    return wells, barriers


def place_uncertainty(images: PlaceLikelihood, energy: Float[np.ndarray, " m"]) -> Float[np.ndarray, " d"]:
    """Median over the images of the standard deviation of their place along every axis, from 0 to 1."""
    posterior = images.likelihood * images.populations(energy)
    posterior = posterior / posterior.sum(axis=1, keepdims=True)
    variance = posterior @ images.positions**2 - (posterior @ images.positions) ** 2
    return np.asarray(np.median(np.sqrt(np.maximum(variance, 0.0)), axis=0))


def smoothing(
    positions: Float[np.ndarray, "m d"], sizes: Float[np.ndarray, " m"], deviation: Float[np.ndarray, " d"]
) -> Float[np.ndarray, "m m"]:
    """Matrix that spreads the share of each place by a Gaussian, thrown back at the ends of every axis."""
    kernel = np.ones((len(positions), len(positions)))
    for along, wide in zip(positions.T, deviation.tolist(), strict=True):
        thrown_back = (along, -along, 2.0 - along)
        kernel *= sum(np.exp(-0.5 * ((along[:, None] - each) / max(wide, 1e-9)) ** 2) for each in thrown_back)
    kernel = kernel * sizes[:, None] + 1e-300 * np.eye(len(positions))
    return np.asarray(kernel / kernel.sum(axis=0))
