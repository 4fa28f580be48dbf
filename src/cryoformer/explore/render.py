"""Pictures of density surfaces without a graphics library: orthographic rays through a rotated volume.

The volume is resampled once into the frame of the viewer, the first crossing of the contour level along each ray gives
the depth, the gradient of the smoothed density at the crossing gives the normal (Lambert shading), and the difference
between the depth and its blurred copy darkens crevices. A second volume, sampled at the crossings, colours the surface.

Frame of the viewer: the rows of ``view`` (a rotation of determinant +1, so hands are kept) are the directions, in
volume coordinates (x, y, z), of right, up, and towards the viewer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import affine_transform, gaussian_filter, label, map_coordinates
from scipy.signal import resample

STILL_COLOUR = (0.80, 0.83, 0.86)
MOVING_COLOUR = (0.84, 0.37, 0.0)
"""Vermilion of the Okabe-Ito palette: told from grey by every kind of colour vision."""
LIGHT = np.array([-0.45, 0.55, 0.70]) / np.linalg.norm([-0.45, 0.55, 0.70])
"""Direction to the light in the viewer's frame: upper left, in front."""
DEPTH_STEP = 0.8
"""Samples along a ray are this many voxels apart; the crossing between two of them is interpolated."""
SUPERSAMPLING = 1.2
SMALL_BOX = 100
"""Volumes below this size are interpolated to twice their grid (in Fourier space), or their voxels would show."""

DUST = 0.02
"""Connected parts with less than this share of the largest part's voxels are dust."""


@dataclass(frozen=True)
class Camera:
    """Where the viewer stands and what the picture covers (lengths in voxels of the volumes given)."""

    view: Float[np.ndarray, "3 3"]
    centre: Float[np.ndarray, "3"]
    """Point (x, y, z), as voxel indices, in the middle of the picture."""
    half_width: float
    """Half of the side of the square that is shown."""
    half_depth: float
    """Nothing further than this from the centre, towards or away from the viewer, is seen."""


def render_surface(
    volume: Float[np.ndarray, "d d d"],
    level: float,
    camera: Camera,
    size: int = 300,
    colour_by: Float[np.ndarray, "d d d"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Picture (size x size, white background) of the surface at density ``level``.

    Args:
        volume: density [z, y, x].
        level: contour level.
        camera: the viewer.
        size: side of the picture in pixels.
        colour_by: values from 0 (grey) to 1 (vermilion) on the volume's grid.
    """
    from PIL import Image  # comes with matplotlib, which only reports need

    fine = 2 if volume.shape[0] < SMALL_BOX else 1
    dense = volume
    for axis in range(3 if fine > 1 else 0):
        dense = resample(dense, fine * volume.shape[axis], axis=axis)
    pixels = int(SUPERSAMPLING * size)
    step = 2.0 * camera.half_width / pixels
    samples = _sample(dense, camera, fine, pixels)
    depth, seen = _first_crossing(samples, level)
    points = _points(depth, camera, pixels)
    normals = _normals(dense, points[seen] * fine, camera.view)
    value = np.zeros(len(normals))
    if colour_by is not None:
        value = map_coordinates(colour_by, points[seen][:, ::-1].T, order=1, mode="nearest").clip(0.0, 1.0)
    picture = np.ones((pixels, pixels, 3))
    picture[seen] = _shade(normals, value, _crevices(depth * DEPTH_STEP, seen, step)[seen])
    image = Image.fromarray((255.0 * picture.clip(0.0, 1.0)).astype(np.uint8))
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def without_dust(volume: Float[np.ndarray, "z y x"], level: float) -> Float[np.ndarray, "z y x"]:
    """The volume with dust, specks of noise that viewers hide too, lowered below the level.

    Values are mirrored at the level rather than cut: a step would make splines overshoot around it.
    """
    parts, count = label(volume > level)
    if count < 2:
        return volume
    sizes = np.bincount(parts.reshape(-1))
    sizes[0] = 0
    speck = sizes < DUST * sizes.max()
    speck[0] = False
    return np.where(speck[parts], 2.0 * level - volume, volume)


def project(volume: Float[np.ndarray, "d d d"], camera: Camera, size: int = 150) -> Float[np.ndarray, "h w"]:
    """Sum of the density along the viewer's rays, in the camera's picture (size x size), in voxel sums."""
    return np.asarray(_sample(volume, camera, 1, size).sum(axis=0) * DEPTH_STEP)


def _layers(camera: Camera) -> int:
    return int(np.ceil(2.0 * camera.half_depth / DEPTH_STEP))


def _sample(volume: np.ndarray, camera: Camera, scale: int, pixels: int) -> Float[np.ndarray, "k h w"]:
    """The volume on the viewer's grid: axis 0 goes away from the viewer, then rows downwards, then columns."""
    layers = _layers(camera)
    right, up, towards = camera.view
    step = 2.0 * camera.half_width / pixels
    axes = np.stack([-towards * DEPTH_STEP, -up * step, right * step], axis=1)
    middle = np.array([layers - 1, pixels - 1, pixels - 1]) / 2.0
    corner = camera.centre - axes @ middle
    # scipy wants [z, y, x] and index = matrix @ output + offset.
    matrix, offset = axes[::-1] * scale, corner[::-1] * scale
    shape = (layers, pixels, pixels)
    return np.asarray(affine_transform(volume.astype(np.float32), matrix, offset, output_shape=shape, order=1))


def _first_crossing(samples: Float[np.ndarray, "k h w"], level: float) -> tuple[Float[np.ndarray, "h w"], np.ndarray]:
    """Depth (in samples, linearly interpolated) where each ray first meets the level, and which rays do."""
    inside = samples > level
    first = inside.argmax(axis=0)
    seen = np.asarray(inside.any(axis=0))
    rows, columns = np.indices(first.shape)
    here, before = samples[first, rows, columns], samples[np.maximum(first - 1, 0), rows, columns]
    fraction = np.where(first > 0, (here - level) / np.maximum(here - before, 1e-12), 0.0)
    depth = np.where(seen, first - fraction.clip(0.0, 1.0), float(len(samples)))
    return depth, seen


def _points(depth: np.ndarray, camera: Camera, pixels: int) -> Float[np.ndarray, "h w 3"]:
    """Voxel indices (x, y, z) of the surface under each pixel."""
    right, up, towards = camera.view
    offset = (np.arange(pixels) - (pixels - 1) / 2.0) * (2.0 * camera.half_width / pixels)
    away = (depth - (_layers(camera) - 1) / 2.0) * DEPTH_STEP
    plane = offset[None, :, None] * right - offset[:, None, None] * up
    return np.asarray(camera.centre + plane - away[..., None] * towards)


def _normals(dense: np.ndarray, points: np.ndarray, view: np.ndarray) -> Float[np.ndarray, "m 3"]:
    """Unit outward normals in the viewer's frame, from the density smoothed by one voxel."""
    smooth = gaussian_filter(dense.astype(np.float32), 1.0)
    index = points[:, ::-1].T
    slopes = [map_coordinates(np.gradient(smooth, axis=axis), index, order=1, mode="nearest") for axis in (2, 1, 0)]
    normals = -np.stack(slopes, axis=1) @ view.T
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def _crevices(depth: np.ndarray, seen: np.ndarray, step: float) -> Float[np.ndarray, "h w"]:
    """0 in the open ... 1 deep between higher neighbours, a cheap ambient occlusion. Depth and widths in voxels."""
    occlusion = np.zeros_like(depth)
    for width in (1.5, 5.0):
        sigma = width / step
        # Empty rays take no part: a silhouette is no crevice.
        weight = gaussian_filter(seen.astype(np.float64), sigma)
        around = gaussian_filter(np.where(seen, depth, 0.0), sigma) / np.maximum(weight, 1e-6)
        occlusion += 0.5 * ((depth - around) / (2.5 * width)).clip(0.0, 1.0)
    return occlusion


def _shade(normals: np.ndarray, value: np.ndarray, occlusion: np.ndarray) -> Float[np.ndarray, "m 3"]:
    """Colours from 0 to 1: ambient and Lambert light, a soft highlight, darker crevices and rims."""
    colour = (1.0 - value[:, None]) * np.array(STILL_COLOUR) + value[:, None] * np.array(MOVING_COLOUR)
    lambert = (normals @ LIGHT).clip(0.0, 1.0)
    halfway = LIGHT + np.array([0.0, 0.0, 1.0])
    highlight = 0.12 * (normals @ (halfway / np.linalg.norm(halfway))).clip(0.0, 1.0) ** 24
    rim = 0.65 + 0.35 * normals[:, 2].clip(0.0, 1.0) ** 0.5
    light = (0.42 + 0.68 * lambert) * rim * (1.0 - 0.6 * occlusion)
    return np.asarray(colour * light[:, None] + highlight[:, None])
