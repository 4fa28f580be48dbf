r"""The landscape of states: density of the particles over two axes, and the energy that it would mean.

    F(x) = -log(p(x) / max p)        in units of kT

p is a histogram of the particles' coordinates smoothed by a Gaussian of half of Scott's width, so a million particles
take a fraction of a second. Bootstrap samples of the particles (Poisson counts of bins) give F's standard deviation.
F is a free energy only where the particles are an equilibrium sample and the latents are exact: the uncertainty of the
latents widens p, and a latent space has no natural measure. Read differences of a few kT, not tenths.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter

BINS = 96
OUTLIERS = 0.001
"""This share of the particles at each end of an axis lies outside the map: a few must not shrink the rest to a dot."""
MARGIN = 0.08
SHARPNESS = 0.5
"""Of Scott's width, which is right for one Gaussian: clouds of conformations are bent and thin."""
BOOTSTRAPS = 48
UMAP_FITTED = 20_000
"""UMAP learns its map from at most so many particles and places the others on it."""


@dataclass(frozen=True)
class Landscape:
    """Energy over two coordinates; rows are the second one. NaN where less than half a particle lies."""

    edges: tuple[Float[np.ndarray, " bx"], Float[np.ndarray, " by"]]
    energy: Float[np.ndarray, "h w"]
    deviation: Float[np.ndarray, "h w"]


def landscape(coordinates: Float[np.ndarray, "n 2"], seed: int = 0) -> Landscape:
    """The landscape of particles at these coordinates, over the range that holds all but the outliers."""
    flat = np.asarray(coordinates, dtype=np.float64)
    low, high = np.quantile(flat, [OUTLIERS, 1.0 - OUTLIERS], axis=0)
    margin = MARGIN * (high - low) + 1e-9
    edges = [np.linspace(low[a] - margin[a], high[a] + margin[a], BINS + 1) for a in (0, 1)]
    counts = np.histogram2d(flat[:, 1], flat[:, 0], bins=(edges[1], edges[0]))[0]
    # Scott's rule in two dimensions: n^(-1/6) standard deviations, in bins.
    widths = [SHARPNESS * flat[:, a].std() * len(flat) ** (-1.0 / 6.0) / (edges[a][1] - edges[a][0]) for a in (1, 0)]
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(counts, widths, mode="constant")
    # A kernel spreads a particle over this many bins.
    empty = smooth < 0.5 / max(2.0 * np.pi * widths[0] * widths[1], 1.0)
    floor = max(float(smooth.max()) * 1e-9, 1e-300)
    total = total_square = np.zeros_like(smooth)
    for _ in range(BOOTSTRAPS):
        energy = _energy(gaussian_filter(rng.poisson(counts).astype(np.float64), widths, mode="constant"), floor)
        total, total_square = total + energy, total_square + energy**2
    deviation = np.sqrt((total_square / BOOTSTRAPS - (total / BOOTSTRAPS) ** 2).clip(0.0))
    shown = np.where(empty, np.nan, _energy(smooth, floor))
    return Landscape((edges[0], edges[1]), shown, np.where(empty, np.nan, deviation))


def _energy(smooth: np.ndarray, floor: float) -> np.ndarray:
    return np.asarray(-np.log(np.maximum(smooth, floor) / max(float(smooth.max()), floor)))


def umap_coordinates(coordinates: Float[np.ndarray, "n q"], seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Two coordinates by UMAP: neighbours stay neighbours, distances mean nothing.

    Raises:
        InputError: umap-learn is not installed.
    """
    from cryoformer.errors import InputError

    try:
        from umap import UMAP
    except ImportError as error:
        raise InputError('--umap needs umap-learn, which is not installed; run: pip install "cryoformer[umap]"') from (
            error
        )
    values = np.asarray(coordinates, dtype=np.float32)
    some = np.random.default_rng(seed).permutation(len(values))[:UMAP_FITTED]
    mapping = UMAP(n_components=2, n_neighbors=min(15, len(some) - 1), random_state=seed, n_jobs=1).fit(values[some])
    flat = np.empty((len(values), 2), dtype=np.float32)
    flat[some] = mapping.embedding_
    others = np.setdiff1d(np.arange(len(values)), some)
    if len(others):
        flat[others] = mapping.transform(values[others])
    return flat
