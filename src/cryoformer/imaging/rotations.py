"""Rotations: RELION Euler angles, the 6D form of networks, uniform sampling of SO(3).

One convention everywhere: ``R`` takes volume coordinates to image coordinates,
``image_xy = (R @ volume_xyz)[:2]``. It is the transpose of scipy's intrinsic
``Rotation.from_euler("ZYZ", (rot, tilt, psi))``, and equal to RELION's ``Euler_angles2matrix`` and to what
cryoDRGN stores in ``poses.pkl``.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor


def matrix_from_euler(angles_degrees: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3 3"]:
    """R of RELION's (rlnAngleRot, rlnAngleTilt, rlnAnglePsi) in degrees."""
    rotation = Rotation.from_euler("ZYZ", np.asarray(angles_degrees, dtype=np.float64), degrees=True)
    return np.swapaxes(rotation.as_matrix(), -1, -2)


def euler_from_matrix(rotations: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """(rot, tilt, psi) in degrees of R; the inverse of :func:`matrix_from_euler`."""
    transposed = np.swapaxes(np.asarray(rotations, dtype=np.float64), -1, -2)
    return Rotation.from_matrix(transposed).as_euler("ZYZ", degrees=True)


def rotation_from_6d(vectors: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation of two 3-vectors by Gram-Schmidt (paper 3.4; Zhou et al., CVPR 2019).

    The first three numbers give the first column, the next three the plane of the second.
    """
    # Imported here: it brings in the compiler of PyTorch, a second that commands without networks can do without.
    import roma

    columns = vectors.reshape(*vectors.shape[:-1], 2, 3).transpose(-1, -2)
    return roma.special_gramschmidt(columns)


def uniform_rotations(count: int, seed: int) -> Float[np.ndarray, "n 3 3"]:
    """``count`` rotations that cover SO(3) evenly: the super-Fibonacci spiral (Alexa, CVPR 2022).

    The spiral itself is fixed; ``seed`` turns it as a whole by a random rotation and shuffles its order, so that two
    stacks of the same size do not share their views.
    """
    psi = 1.533751168755204288118041  # the real root of psi^4 = psi + 4
    s = np.arange(count) + 0.5
    t = s / max(count, 1)
    inner, outer = np.sqrt(t), np.sqrt(1.0 - t)
    alpha, beta = 2.0 * math.pi * s / math.sqrt(2.0), 2.0 * math.pi * s / psi
    quaternions = np.stack(
        [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)], axis=-1
    )
    generator = np.random.default_rng(seed)
    turned = Rotation.random(rng=generator) * Rotation.from_quat(quaternions)
    return turned.as_matrix()[generator.permutation(count)]
