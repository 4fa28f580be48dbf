"""Images and volumes on the Fourier half-plane.

Layout: ``rfft2`` order without shift, ``[..., D, D // 2 + 1]``, row = ky (0, 1, ..., -1), column = kx >= 0. The
image's origin, pixel ``D // 2``, is the origin of phase. Transforms are plain sums without normalisation, so a
Fourier crop keeps the coefficients as they are, and the coefficient of a projection does not depend on the box it
is computed in.
"""

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor


def images_to_fourier(images: Float[Tensor, "*b d d"]) -> Complex[Tensor, "*b d h"]:
    """Half-plane transform of images whose origin is pixel ``D // 2``."""
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))


def fourier_to_images(coefficients: Complex[Tensor, "*b d h"], box: int) -> Float[Tensor, "*b d d"]:
    """Images of side ``box`` (the inverse of :func:`images_to_fourier`)."""
    return torch.fft.fftshift(torch.fft.irfft2(coefficients, s=(box, box)), dim=(-2, -1))


def crop_fourier(coefficients: Complex[Tensor, "*b d h"], box_from: int, box_to: int) -> Complex[Tensor, "*b e k"]:
    """Keep the band of a smaller, even box.

    The Nyquist row and column of the smaller box are dropped to zero: at even size they mix two
    frequencies of the larger one, and nothing should be learnt from them.
    """
    if box_to > box_from or box_to % 2:
        raise ValueError(f"cannot crop a box of {box_from} to {box_to}: expected an even, smaller number")
    if box_to == box_from:
        return coefficients
    half = box_to // 2
    cropped = torch.cat([coefficients[..., :half, : half + 1], coefficients[..., -half:, : half + 1]], dim=-2)
    cropped[..., half, :] = 0
    cropped[..., half] = 0
    return cropped


def half_plane_weights(box: int, device: torch.device | None = None) -> Float[Tensor, " h"]:
    """How often each column of the half-plane stands for the whole plane: 1, 2, ..., 2, 1 (Parseval)."""
    weights = torch.full((box // 2 + 1,), 2.0, device=device)
    weights[0] = 1.0
    if box % 2 == 0:
        weights[-1] = 1.0
    return weights


def frequencies(box: int, device: torch.device | None = None) -> tuple[Float[Tensor, "d 1"], Float[Tensor, "1 h"]]:
    """ky [D, 1] and kx [1, D // 2 + 1] as whole numbers of cycles per box."""
    ky = torch.fft.fftfreq(box, d=1.0 / box, device=device)[:, None]
    kx = torch.arange(box // 2 + 1, dtype=ky.dtype, device=device)[None, :]
    return ky, kx


def radii(box: int, device: torch.device | None = None) -> Float[Tensor, "d h"]:
    """|k| of the half-plane in cycles per box."""
    ky, kx = frequencies(box, device)
    return torch.sqrt(ky**2 + kx**2)


def shells(box: int, device: torch.device | None = None) -> Int[Tensor, "d h"]:
    """Index of the shell (rounded radius) of every coefficient of the half-plane."""
    return radii(box, device).round().long()


def shift_phases(
    shifts_angstrom: Float[Tensor, "b 2"], box: int, pixel_size_angstrom: float
) -> Complex[Tensor, "b d h"]:
    """Factors that move an image's content by (x, y) Angstrom: exp(-2 pi i k . shift)."""
    ky, kx = frequencies(box, shifts_angstrom.device)
    turns = shifts_angstrom / (box * pixel_size_angstrom)
    angle = -2.0 * torch.pi * (turns[:, 0, None, None] * kx + turns[:, 1, None, None] * ky)
    return torch.polar(torch.ones_like(angle), angle)


def radial_mean(values: Float[Tensor, "*b d h"], box: int) -> Float[Tensor, "*b s"]:
    """Mean over shells 0 .. D // 2 of values on the half-plane, each coefficient counted as in the whole plane."""
    index = shells(box, values.device).reshape(-1)
    weights = half_plane_weights(box, values.device).expand(box, -1).reshape(-1)
    inside = index <= box // 2
    count = torch.zeros(box // 2 + 1, device=values.device).index_add_(0, index[inside], weights[inside])
    flat = values.reshape(-1, values.shape[-2] * values.shape[-1])[:, inside] * weights[inside]
    total = torch.zeros(flat.shape[0], box // 2 + 1, device=values.device).index_add_(1, index[inside], flat)
    return (total / count).reshape(*values.shape[:-2], box // 2 + 1)
