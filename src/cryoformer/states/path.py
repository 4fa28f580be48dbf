r"""Places in the latent space: a path with even steps of the density, or a plane of two coordinates.

Latents have no natural scale, and a free energy along a path depends on how length is measured along it: stretch the
coordinate where particles are many, and the density there falls. Length here is how much the decoded density changes,

    l(a, b) = |sigma(.; z_b) - sigma(.; z_a)|,

which stays the same however latents are stretched. A path has places at even steps of it. A plane has places at even
steps of two principal coordinates, each with the area by which the density changes around it (:mod:`.curve`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial.legendre import legvander

from cryoformer.assess.latent_space import principal_coordinates
from cryoformer.errors import InputError
from cryoformer.explore.density_path import density_path
from cryoformer.imaging.grids import crop_volume
from cryoformer.run.run_folder import Run

PLACES = 48
SIDE = 20
# Of the curve, and of the surface in all, that decoded densities are brought to.
DEGREE, PLANE_DEGREE = 6, 4
# Of a plane, densities where no particle is count so little for the surface.
EMPTY = 0.01
MOST_FOR_GRID = 20_000
ENDS = (0.002, 0.998)
"""Quantiles of the coordinate between which the path along it runs: beyond, there is next to nobody."""
# A change of density this many times smaller than the densities themselves is none.
LEAST_CHANGE = 1e-3


@dataclass(frozen=True)
class DensityPlaces:
    """Places along a path or on a plane, with their densities: base + basis @ coefficients.

    Attributes:
        name: in words.
        shape: of the path (m,) or the plane (a, b), whose places are numbered row by row.
        latents: of every place.
        basis: polynomials at every place.
        base, coefficients: that fit what is decoded there, at a box for likelihoods.
    """

    name: str
    shape: tuple[int, ...]
    latents: Float[np.ndarray, "m k"]
    basis: Float[torch.Tensor, "m q"]
    base: Float[torch.Tensor, "d d d"]
    coefficients: Float[torch.Tensor, "q d d d"]

    @staticmethod
    def fitted(
        name: str,
        shape: tuple[int, ...],
        latents: Float[np.ndarray, "m k"],
        volumes: Float[torch.Tensor, "m d d d"],
        weights: Float[np.ndarray, " m"] | None = None,
    ) -> "DensityPlaces":
        """To volumes that were decoded at these latents, by least squares with these weights (None: all alike)."""
        weight = torch.as_tensor(np.ones(len(volumes)) if weights is None else weights).to(volumes)
        base = torch.einsum("m,mzyx->zyx", weight / weight.sum(), volumes)
        basis, root = polynomials(shape).to(volumes), weight.sqrt()[:, None]
        found = torch.linalg.pinv(root * basis) @ (root * (volumes - base).flatten(1))
        return DensityPlaces(name, shape, latents, basis, base, found.view(-1, *base.shape))


def polynomials(shape: tuple[int, ...]) -> Float[torch.Tensor, "m q"]:
    """Legendre polynomials at the places of a path, or products of them on a plane."""
    if len(shape) == 1:
        return torch.from_numpy(legvander(np.linspace(-1.0, 1.0, shape[0]), DEGREE))
    one, other = (legvander(np.linspace(-1.0, 1.0, count), PLANE_DEGREE) for count in shape)
    products = [
        np.multiply.outer(one[:, i], other[:, j]).ravel()
        for i in range(PLANE_DEGREE + 1)
        for j in range(PLANE_DEGREE + 1 - i)
    ]
    return torch.from_numpy(np.stack(products, axis=1))


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
    number = 1 if component is None else component
    return along_component(latents, number - 1), f"principal coordinate {number}"


def along_component(latents: Float[np.ndarray, "n k"], axis: int = 0) -> Float[np.ndarray, "m k"]:
    """Where particles are on average, as a principal coordinate goes from its 0.2 % to its 99.8 % quantile.

    Raises:
        InputError: there is no such coordinate.
    """
    return _grid(latents, (axis,), (PLACES,))[0]


def _grid(
    latents: Float[np.ndarray, "n k"], axes: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " m"]]:
    """Even steps of some principal coordinates, the others where particles are on average; and how many are near each.

    Raises:
        InputError: there is no such coordinate.
    """
    principal = principal_coordinates(latents)
    for axis in axes:
        if not 0 <= axis < len(principal.components):
            option = "--component" if len(axes) == 1 else "--plane"
            raise InputError(f"{option} {axis + 1}: the run has components 1 to {len(principal.components)}")
    coordinates = principal.coordinates[:: max(1, len(latents) // MOST_FOR_GRID)]
    along = coordinates[:, axes]
    ends = np.quantile(along, ENDS, axis=0).T.tolist()
    steps = [np.linspace(low, high, count) for (low, high), count in zip(ends, shape, strict=True)]
    places = np.stack([axis.ravel() for axis in np.meshgrid(*steps, indexing="ij")], axis=1)
    # Wide enough that the places do not follow single particles at the ends.
    narrowest = np.array([2.0 * float(some[1] - some[0]) for some in steps])
    width = np.maximum(narrowest, np.maximum(along.std(axis=0) * len(along) ** (-1 / (len(axes) + 4)), 1e-12))
    away = np.zeros((len(places), len(along)))
    for one, other, wide in zip(along.T, places.T, width.tolist(), strict=True):
        away -= 0.5 * ((one - other[:, None]) / wide) ** 2
    nearest = away.max(axis=1, keepdims=True)
    weights = np.exp(away - nearest)
    near = weights.sum(axis=1) * np.exp(nearest[:, 0])
    line = (weights @ coordinates) / weights.sum(axis=1, keepdims=True)
    line[:, axes] = places
    return principal.latents_at(line), near


def even_path(run: Run, line: Float[np.ndarray, "j k"], name: str, box: int) -> DensityPlaces:
    """The line, at even steps of the density that is decoded along it.

    Raises:
        InputError: the density does not change along it.
    """
    fine = _resampled(line, np.linspace(0.0, 1.0, PLACES))
    volumes = _decoded(run, fine, box)
    steps = (volumes[1:] - volumes[:-1]).flatten(1).norm(dim=1).double().numpy()
    _check_change(run, volumes, float(steps.sum()), name)
    reached = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    even = np.interp(np.linspace(0.0, 1.0, PLACES), reached, np.linspace(0.0, 1.0, PLACES))
    latents = _resampled(fine, even)
    return DensityPlaces.fitted(name, (PLACES,), latents, _decoded(run, latents, box))


def plane(run: Run, components: tuple[int, int], box: int) -> DensityPlaces:
    """The plane of two principal coordinates, from 1.

    Raises:
        InputError: there are no such coordinates, or the density does not change with one of them.
    """
    if components[0] == components[1]:
        raise InputError(f"--plane {components[0]} {components[1]}: give two coordinates that differ")
    name = f"principal coordinates {components[0]} and {components[1]}"
    latents, near = _grid(run.latents, (components[0] - 1, components[1] - 1), (SIDE, SIDE))
    volumes = _decoded(run, latents, box)
    grid = volumes.view(SIDE, SIDE, -1)
    occupied = torch.from_numpy(near.reshape(SIDE, SIDE) / near.sum()).to(grid)
    for axis, number in enumerate(components):
        change = grid.diff(dim=axis).norm(dim=2) * occupied.narrow(axis, 0, SIDE - 1)
        _check_change(run, volumes, float(SIDE * change.sum()), f"principal coordinate {number}")
    return DensityPlaces.fitted(name, (SIDE, SIDE), latents, volumes, near / near.max() + EMPTY)


def _check_change(run: Run, volumes: Float[torch.Tensor, "m d d d"], change: float, name: str) -> None:
    if change <= LEAST_CHANGE * float(volumes.mean(dim=0).norm()):
        raise InputError(
            f"{run.path}: the density does not change along {name}: the run shows no motion, so there is no free "
            "energy to be had"
        )


def _decoded(run: Run, latents: Float[np.ndarray, "m k"], box: int) -> Float[torch.Tensor, "m d d d"]:
    volumes = run.latent_volumes(latents.astype(np.float32))
    return torch.stack([crop_volume(torch.from_numpy(volume), box) for volume in volumes])


def _resampled(line: Float[np.ndarray, "j k"], places: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m k"]:
    """Points at these shares of a line's number of steps."""
    own = np.linspace(0.0, 1.0, len(line))
    return np.stack([np.interp(places, own, column) for column in line.T], axis=1)
