"""Isosurfaces as triangles, fast: marching cubes on the part of the box that holds density."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt32
from scipy.ndimage import map_coordinates, zoom

from cryoformer.explore.render import without_dust

MARGIN = 3


@dataclass(frozen=True)
class Surface:
    """Triangles of one isosurface; lengths in Angstrom from the box centre, axes x, y, z; normals point outwards."""

    vertices: Float32[np.ndarray, "v 3"]
    normals: Float32[np.ndarray, "v 3"]
    faces: UInt32[np.ndarray, "f 3"]


def isosurface(
    volume: Float[np.ndarray, "d d d"],
    level: float,
    pixel_size_angstrom: float,
    hide_dust: bool = True,
    refine: int = 1,
) -> Surface:
    """Surface of a density [z, y, x] at a level; without any triangles where nothing reaches it.

    ``refine`` 2 or more interpolates (cubic splines) between the voxels first: smooth instead of facetted, and slower.
    """
    from skimage.measure import marching_cubes

    corner = _occupied(volume > level)
    if corner is None:
        return _nothing()
    part = _closed(volume[corner], level)
    if hide_dust:
        part = without_dust(part, level)
    if refine > 1:
        part = zoom(part, [(refine * (size - 1) + 1) / size for size in part.shape], order=3)
        if not part.min() < level < part.max():
            return _nothing()
    vertices, faces, normals, _ = marching_cubes(part, level)
    vertices /= refine
    start = np.array([axis.start - 1 for axis in corner]) - volume.shape[0] // 2
    return Surface(
        vertices=np.ascontiguousarray(((vertices + start) * pixel_size_angstrom)[:, ::-1], dtype=np.float32),
        normals=np.ascontiguousarray(normals[:, ::-1], dtype=np.float32),
        faces=np.ascontiguousarray(faces, dtype=np.uint32),
    )


def values_at(
    volume: Float[np.ndarray, "d d d"], vertices: Float32[np.ndarray, "v 3"], pixel_size_angstrom: float
) -> Float32[np.ndarray, " v"]:
    """A map's values (trilinear) at points in Angstrom from its centre: what colours a surface."""
    places = vertices[:, ::-1].T / pixel_size_angstrom + volume.shape[0] // 2
    return np.asarray(map_coordinates(volume, places, order=1, mode="nearest"), dtype=np.float32)


def _nothing() -> Surface:
    return Surface(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint32))


def _occupied(inside: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The smallest box around True, with voxels to spare for interpolation."""
    ranges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(inside.any(axis=others))
        if not len(found):
            return None
        ranges.append(slice(max(int(found[0]) - MARGIN, 0), int(found[-1]) + 1 + MARGIN))
    return ranges[0], ranges[1], ranges[2]


def _closed(part: np.ndarray, level: float) -> np.ndarray:
    """With one more plane all around that stays below the level: surfaces are closed where they meet the box."""
    part = np.pad(part, 1, mode="edge")
    for axis in range(3):
        for side in (0, -1):
            plane = np.moveaxis(part, axis, 0)[side]
            np.minimum(plane, level - 0.1 * max(abs(level), 1e-6), out=plane)
    return part
