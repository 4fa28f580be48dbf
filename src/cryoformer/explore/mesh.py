"""Surfaces as triangles in a few bytes, for the turning pictures of the report.

A mesh is one block of bytes: vertex positions as uint16 (x, y, z; 0 is the low edge of the box, 65535 the high one),
triangles as uint16 vertex numbers, one uint8 per vertex for the colour. Little-endian. Normals are worked out where it
is drawn.
"""

import base64
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from scipy.ndimage import map_coordinates

from cryoformer.errors import InputError
from cryoformer.explore.morph import displayed
from cryoformer.explore.render import without_dust

MESH_BOX = 80
"""Larger volumes are Fourier-cropped to this box."""
MOST_VERTICES = 40_000
STEP = 2**16 - 1


@dataclass(frozen=True)
class Mesh:
    """Triangles of a surface in a box."""

    positions: UInt16[np.ndarray, "v 3"]
    faces: UInt16[np.ndarray, "f 3"]
    values: UInt8[np.ndarray, " v"]

    @property
    def encoded(self) -> str:
        """The bytes in base64."""
        parts = (self.positions.astype("<u2"), self.faces.astype("<u2"), self.values)
        return base64.b64encode(b"".join(part.tobytes() for part in parts)).decode("ascii")


def surface_mesh(volume: Float[np.ndarray, "d d d"], level: float, colour_by: Float[np.ndarray, "d d d"]) -> Mesh:
    """The surface at a contour level; vertices carry ``colour_by`` (0 to 1).

    A large volume, or one whose surface has too many vertices, is drawn on a coarser grid.

    Raises:
        InputError: scikit-image is not installed.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        message = 'surfaces need scikit-image, which is not installed; run: pip install "cryoformer[report]"'
        raise InputError(message) from error
    box = min(MESH_BOX, volume.shape[0])
    while True:
        clean = without_dust(displayed(volume, box), level)
        if not clean.min() < level < clean.max():
            return Mesh(np.zeros((0, 3), np.uint16), np.zeros((0, 3), np.uint16), np.zeros(0, np.uint8))
        # Turning z, y, x into x, y, z turns the triangles over: "descent" makes them face outwards in the end.
        vertices, faces, _, _ = marching_cubes(np.asarray(clean, dtype=np.float32), level, gradient_direction="descent")
        if len(vertices) <= MOST_VERTICES:
            break
        box = 2 * int(0.4 * box)
    # Voxel i of a coarser grid lies at i * ratio of the finer one.
    places = vertices * (volume.shape[0] / box)
    values = map_coordinates(np.asarray(colour_by), places.T, order=1, mode="nearest").clip(0.0, 1.0)
    positions = (vertices[:, ::-1] / box * STEP).round().astype(np.uint16)
    return Mesh(positions, faces.astype(np.uint16), (255.0 * values).round().astype(np.uint8))
