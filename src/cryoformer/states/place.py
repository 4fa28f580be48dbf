"""Where in the latent space a state is: a cluster of the report, given coordinates, or a peak of the landscape."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError
from cryoformer.explore.landscape import Landscape, landscape
from cryoformer.explore.selection import cluster_centre
from cryoformer.run.run_folder import Run

# kT between a peak and the pass to a higher one: half of the density.
PROMINENCE = 0.7


@dataclass(frozen=True)
class StatePlace:
    """A point of the latent space, or of some of its coordinates.

    Attributes:
        name: in words.
        axes: orthonormal directions of the latent space in which the place is given.
        point: its coordinates along them.
        latent: the latent of a particle near it, at which the run's own density of the state is decoded.
    """

    name: str
    axes: Float[np.ndarray, "q k"]
    point: Float[np.ndarray, " q"]
    latent: Float[np.ndarray, " k"]

    def along(
        self, latents: Float[np.ndarray, "n k"], covariance: Float[np.ndarray, "n k k"]
    ) -> tuple[Float[np.ndarray, "n q"], Float[np.ndarray, "n q q"]]:
        """Posteriors of latents along the axes: how far the mean is from the place, and the covariance."""
        means = latents.astype(np.float64) @ self.axes.T - self.point
        return means, np.asarray(self.axes @ covariance.astype(np.float64) @ self.axes.T)


def at_cluster(run: Run, number: int) -> StatePlace:
    """The middle of a cluster (from 1, as in the report): the particle whose density is the report's state.

    Raises:
        InputError: the run was not analysed, or has no such cluster.
    """
    return _at_latent(run, run.latents[cluster_centre(run.path, len(run.latents), number)], f"cluster {number}")


def at_coordinates(run: Run, coordinates: Float[np.ndarray, " q"]) -> StatePlace:
    """A place given by the first principal coordinates, as the report and the viewer show them; others may be any.

    Raises:
        InputError: more coordinates than the run has.
    """
    principal = principal_coordinates(run.latents)
    count, available = len(coordinates), len(principal.components)
    if not 1 <= count <= available:
        raise InputError(f"--at: {count} coordinates were given; the run has {available}")
    axes = principal.components[:count]
    point = coordinates + axes @ principal.mean
    nearest = int(np.square(principal.coordinates[:, :count] - coordinates).sum(axis=1).argmin())
    name = "principal coordinates " + ", ".join(f"{value:.4g}" for value in coordinates)
    return StatePlace(name, axes, point, run.latents[nearest])


def at_latent(run: Run, latent: Float[np.ndarray, " k"]) -> StatePlace:
    """A point of the latent space."""
    return _at_latent(run, latent, "latent " + ", ".join(f"{value:.4g}" for value in latent))


def at_peak(run: Run, number: int) -> StatePlace:
    """The n-th highest peak (from 1) of the density of the particles over the first two principal coordinates.

    Raises:
        InputError: there are fewer peaks.
    """
    coordinates = principal_coordinates(run.latents).coordinates[:, :2]
    flat = coordinates if coordinates.shape[1] == 2 else np.pad(coordinates, ((0, 0), (0, 1)))
    found = peaks(landscape(flat))
    if not 1 <= number <= len(found):
        raise InputError(f"--density-peak {number}: the landscape of {run.path} has peaks 1 to {len(found)}")
    place = at_coordinates(run, found[number - 1][: coordinates.shape[1]])
    return StatePlace(f"density peak {number} of {len(found)}, {place.name}", place.axes, place.point, place.latent)


def peaks(found: Landscape) -> Float[np.ndarray, "m 2"]:
    """Places of the peaks of the density, the highest first, of those that stand out (by :data:`PROMINENCE`)."""
    energy = np.pad(np.where(np.isnan(found.energy), np.inf, found.energy), 1, constant_values=np.inf)
    width = energy.shape[1]
    around = [down * width + right for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    flat = energy.ravel()
    # The landscape is flooded from its lowest place on: a basin ends where it runs over into one that began lower.
    basin, depth = np.full(flat.shape, -1), dict[int, float]()
    for place in np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())].tolist():
        touched = sorted(
            {_root(basin, place + step) for step in around if basin[place + step] >= 0}, key=flat.__getitem__
        )
        basin[place] = touched[0] if touched else place
        for other in touched[1:]:
            depth[other], basin[other] = float(flat[place] - flat[other]), touched[0]
        if not touched:
            depth[place] = np.inf
    kept = [place for place, height in depth.items() if height >= PROMINENCE]
    rows, columns = np.divmod(np.array(sorted(kept, key=flat.__getitem__)), width)
    x, y = ((edges[1:] + edges[:-1]) / 2 for edges in found.edges)
    return np.stack([x[columns - 1], y[rows - 1]], axis=1)


def _root(basin: np.ndarray, place: int) -> int:
    """The lowest place of the basin that a place belongs to."""
    while basin[place] != place:
        place = int(basin[place])
    return place


def read_place(text: str) -> Float[np.ndarray, " q"]:
    """``Z1,Z2,...`` as numbers.

    Raises:
        InputError: something else.
    """
    try:
        found = np.array([float(part) for part in text.split(",")])
    except ValueError:
        found = np.array([np.nan])
    if not np.isfinite(found).all():
        raise InputError(
            f"--at {text}: expected numbers with commas between (the first principal coordinates, those of the "
            "report), or a .npy file with one point of the latent space"
        )
    return found


def is_file_of_latents(text: str) -> bool:
    """Whether ``--at`` names a file."""
    return Path(text).suffix.lower() == ".npy"


def _at_latent(run: Run, latent: Float[np.ndarray, " k"], name: str) -> StatePlace:
    return StatePlace(name, np.eye(len(latent)), latent.astype(np.float64), latent.astype(np.float32))
