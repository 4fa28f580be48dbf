"""The contrast transfer function, behind one wrapper (the arithmetic is torch-ctf's).

    gamma(k) = pi lambda df(angle) k^2 - pi/2 Cs lambda^3 k^4 + phase_shift
    CTF(k)   = (sqrt(1 - w^2) sin gamma + w cos gamma) exp(-B k^2 / 4)

df is positive for underfocus, and df(angle) = (u + v)/2 + (u - v)/2 cos 2(angle - angle_u), with the angle counted
from the image's x axis. CTF = +w at k = 0: protein is WHITE in the image for positive density.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor
from torch_ctf import calculate_ctf_2d


@dataclass(frozen=True)
class CTFParameters:
    """CTF of n particles, one row each; float32 tensors [n] in the units of their names."""

    defocus_u_angstrom: Float[Tensor, " n"]
    defocus_v_angstrom: Float[Tensor, " n"]
    defocus_angle_degrees: Float[Tensor, " n"]
    voltage_kv: Float[Tensor, " n"]
    spherical_aberration_mm: Float[Tensor, " n"]
    amplitude_contrast: Float[Tensor, " n"]
    phase_shift_degrees: Float[Tensor, " n"]
    b_factor_angstrom2: Float[Tensor, " n"]

    @staticmethod
    def none(count: int) -> "CTFParameters":
        """A CTF of 1 at all frequencies, for images that have none: an amplitude contrast of 1 without defocus."""
        values = (0.0, 0.0, 0.0, 300.0, 0.0, 1.0, 0.0, 0.0)
        return CTFParameters(*(torch.full((count,), value) for value in values))

    def __len__(self) -> int:
        return len(self.defocus_u_angstrom)

    def __getitem__(self, index: Tensor | slice) -> "CTFParameters":
        return CTFParameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device | str) -> "CTFParameters":
        """The same parameters on another device."""
        return CTFParameters(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def contrast_transfer(
    ctf: CTFParameters, box: int, pixel_size_angstrom: float | Float[Tensor, " n"]
) -> Float[Tensor, "n d h"]:
    """CTF on the unshifted half-plane [n, D, D // 2 + 1], for images of ``box`` pixels of this size."""
    # torch-ctf takes the square root of the astigmatism: u < v is the same lens with u and v swapped and turned.
    astigmatism_angstrom = (ctf.defocus_u_angstrom - ctf.defocus_v_angstrom) / 2
    values = calculate_ctf_2d(
        defocus=(ctf.defocus_u_angstrom + ctf.defocus_v_angstrom) / 2 * 1e-4,
        astigmatism=astigmatism_angstrom.abs() * 1e-4,
        astigmatism_angle=ctf.defocus_angle_degrees + 90.0 * (astigmatism_angstrom < 0),
        voltage=ctf.voltage_kv,
        spherical_aberration=ctf.spherical_aberration_mm,
        amplitude_contrast=ctf.amplitude_contrast,
        phase_shift=ctf.phase_shift_degrees,
        pixel_size=pixel_size_angstrom,
        image_shape=(box, box),
        rfft=True,
        fftshift=False,
    )
    if not torch.any(ctf.b_factor_angstrom2):
        return values
    pixel = torch.as_tensor(pixel_size_angstrom, dtype=values.dtype, device=values.device).reshape(-1, 1, 1)
    ky, kx = torch.fft.fftfreq(box, device=values.device)[:, None], torch.fft.rfftfreq(box, device=values.device)[None]
    k2 = (ky**2 + kx**2)[None] / pixel**2
    return values * torch.exp(-ctf.b_factor_angstrom2[:, None, None] / 4 * k2)
