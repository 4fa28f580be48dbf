r"""A path through the latent space with even steps of the density.

Latents have no natural scale, and a free energy along a path depends on how length is measured along it: stretch the
coordinate where particles are many, and the density there falls. Length here is how much the decoded density changes,

    l(a, b) = |sigma(.; z_b) - sigma(.; z_a)|,

which stays the same however latents are stretched. The path has places at even steps of it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError
from cryoformer.explore.density_path import density_path
from cryoformer.imaging.grids import crop_volume
from cryoformer.run.run_folder import Run

PLACES = 48
ENDS = (0.002, 0.998)
"""Quantiles of the coordinate between which the path along it runs: beyond, there is next to nobody."""
# A change of density this many times smaller than the densities themselves is none.
LEAST_CHANGE = 1e-3


@dataclass(frozen=True)
class DensityPath:
    """Places along a path.

    Attributes:
        name: in words.
        latents: of every place.
        volumes: decoded there, at a box for likelihoods.
    """

    name: str
    latents: Float[np.ndarray, "m k"]
    volumes: Float[torch.Tensor, "m d d d"]


def path_line(
    latents: Float[np.ndarray, "n k"],
    component: int | None = None,
    between: tuple[int, int] | None = None,
    points: Float[np.ndarray, "j k"] | None = None,
) -> tuple[Float[np.ndarray, "m k"], str]:
    """The line that the user asks for, by one of these (None: along the first principal coordinate), and its name.

    Args:
        component: a principal coordinate, from 1.
        between: two particles, from 0.
        points: latents.

    Raises:
        InputError: what there is not.
    """
    if points is not None:
        if len(points) < 2:
            raise InputError("--points: one point is no path; give two or more")
        return points.astype(np.float64), f"the path through {len(points)} points"
    if between is not None:
        for particle in between:
            if not 0 <= particle < len(latents):
                raise InputError(
                    f"--between: there is no particle {particle}; the run has {len(latents)}, counted from 0"
                )
        return density_path(latents, *between, PLACES), f"the path from particle {between[0]} to {between[1]}"
    number = component or 1
    return along_component(latents, number - 1), f"principal coordinate {number}"


def along_component(latents: Float[np.ndarray, "n k"], axis: int = 0) -> Float[np.ndarray, "m k"]:
    """Where particles are on average, as a principal coordinate goes from its 0.2 % to its 99.8 % quantile.

    Raises:
        InputError: there is no such coordinate.
    """
    principal = principal_coordinates(latents)
    if not 0 <= axis < len(principal.components):
        raise InputError(f"--component {axis + 1}: the run has components 1 to {len(principal.components)}")
    along = principal.coordinates[:, axis]
    low, high = np.quantile(along, ENDS)
    places = np.linspace(low, high, PLACES)
    # Wide enough that the path does not follow single particles at its ends.
    width = max(2.0 * float(places[1] - places[0]), along.std() * len(along) ** -0.2, 1e-12)
    weights = np.exp(-0.5 * ((along - places[:, None]) / width) ** 2)
    line = (weights @ principal.coordinates) / weights.sum(axis=1, keepdims=True)
    line[:, axis] = places
    return principal.latents_at(line)


def even_path(run: Run, line: Float[np.ndarray, "j k"], name: str, box: int) -> DensityPath:
    """The line, at even steps of the density that is decoded along it.

    Raises:
        InputError: the density does not change along it.
    """
    fine = _resampled(line, np.linspace(0.0, 1.0, PLACES))
    volumes = _decoded(run, fine, box)
    steps = (volumes[1:] - volumes[:-1]).flatten(1).norm(dim=1).double().numpy()
    size = float(volumes.mean(dim=0).norm())
    if steps.sum() <= LEAST_CHANGE * size:
        raise InputError(
            f"{run.path}: the density does not change along {name}: the run shows no motion, so there is no free "
            "energy to be had"
        )
    reached = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    even = np.interp(np.linspace(0.0, 1.0, PLACES), reached, np.linspace(0.0, 1.0, PLACES))
    latents = _resampled(fine, even)
    return DensityPath(name, latents, _decoded(run, latents, box))


def _decoded(run: Run, latents: Float[np.ndarray, "m k"], box: int) -> Float[torch.Tensor, "m d d d"]:
    volumes = run.latent_volumes(latents.astype(np.float32))
    return torch.stack([crop_volume(torch.from_numpy(volume), box) for volume in volumes])


def _resampled(line: Float[np.ndarray, "j k"], places: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m k"]:
    """Points at these shares of a line's number of steps."""
    own = np.linspace(0.0, 1.0, len(line))
    return np.stack([np.interp(places, own, column) for column in line.T], axis=1)
