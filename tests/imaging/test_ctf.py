"""The CTF against its formula, written out in float64."""

import numpy as np
import pytest
import torch

from cryoformer.imaging.ctf import CTFParameters, contrast_transfer


def parameters(**values: float) -> CTFParameters:
    standard = {
        "defocus_u_angstrom": 15000.0,
        "defocus_v_angstrom": 14000.0,
        "defocus_angle_degrees": 30.0,
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
        "amplitude_contrast": 0.1,
        "phase_shift_degrees": 0.0,
        "b_factor_angstrom2": 0.0,
    }
    return CTFParameters(**{name: torch.tensor([value]) for name, value in (standard | values).items()})


def formula(box: int, pixel: float, ctf: CTFParameters) -> np.ndarray:
    u, v, angle, kilovolts, cs, w, phase, b = (float(getattr(ctf, name)[0]) for name in vars(ctf))
    volts = 1e3 * kilovolts
    wavelength = 12.2643 / np.sqrt(volts + 0.97845e-6 * volts**2)
    ky, kx = np.fft.fftfreq(box, pixel)[:, None], np.fft.rfftfreq(box, pixel)[None]
    k2, direction = ky**2 + kx**2, np.arctan2(ky, kx)
    defocus = (u + v) / 2 + (u - v) / 2 * np.cos(2 * (direction - np.deg2rad(angle)))
    gamma = np.pi * wavelength * defocus * k2 - np.pi / 2 * cs * 1e7 * wavelength**3 * k2**2 + np.deg2rad(phase)
    return (np.sqrt(1 - w**2) * np.sin(gamma) + w * np.cos(gamma)) * np.exp(-b * k2 / 4)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"defocus_u_angstrom": 14000.0, "defocus_v_angstrom": 15000.0},  # u < v happens in real files
        {"phase_shift_degrees": 90.0},
        {"b_factor_angstrom2": 80.0},
        {"voltage_kv": 200.0, "spherical_aberration_mm": 0.01, "amplitude_contrast": 0.07},
    ],
)
def test_ctf_is_the_formula(values: dict[str, float]) -> None:
    ctf = parameters(**values)
    ours = contrast_transfer(ctf, 64, 3.0)[0].numpy()
    # torch-ctf takes the wavelength from other constants: some 1e-4 of the phase, which reaches tens of radians.
    assert np.abs(ours - formula(64, 3.0, ctf)).max() < 5e-3


def test_protein_is_white_at_the_origin() -> None:
    assert float(contrast_transfer(parameters(), 32, 2.0)[0, 0, 0]) == pytest.approx(0.1, abs=1e-5)


def test_pixel_size_per_image() -> None:
    two = parameters()[torch.tensor([0, 0])]
    both = contrast_transfer(two, 16, torch.tensor([2.0, 3.0]))
    assert torch.allclose(both[1], contrast_transfer(parameters(), 16, 3.0)[0])
    assert not torch.allclose(both[0], both[1])


def test_b_factor_falls_with_each_images_own_frequency() -> None:
    """At a pixel twice as large the same place on the half-plane is half the frequency."""
    sharp, blurred = parameters(), parameters(b_factor_angstrom2=50.0)
    two, pixels = torch.tensor([0, 0]), torch.tensor([2.0, 4.0])
    envelope = contrast_transfer(blurred[two], 16, pixels) / contrast_transfer(sharp[two], 16, pixels)
    expected = torch.exp(torch.tensor(-50.0 / 4) * (torch.tensor([5, 3]).square().sum() / 16**2) / pixels**2)
    torch.testing.assert_close(envelope[:, 5, 3], expected, rtol=1e-3, atol=0)
