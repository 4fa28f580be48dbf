"""Projection of moving atoms, against an exact sum and against the volume of the same moment."""

import numpy as np
import pytest
import torch

from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.imaging.reference import project_volume_reference
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.simulate.density import VOLT_ANGSTROM2, scattering_factors, state_volume
from cryoformer.simulate.images import AtomProjector
from cryoformer.simulate.keyframes import build_path
from cryoformer.simulate.structures import adk_models, read_models

BOX, PIXEL = 40, 2.5
B_FACTOR = 4 * 6.0**2
T = np.array([0.0, 0.3, 0.9])
ROTATIONS = uniform_rotations(3, seed=5)
SHIFTS = np.array([[0.0, 0.0], [6.0, -3.0], [-2.2, 4.4]])


def adk() -> tuple:
    models = read_models(adk_models())
    path, _ = build_path(models)
    start = models[0].positions_angstrom
    centre = start.mean(axis=0)
    projector = AtomProjector(models[0].elements, start, centre, path, BOX, PIXEL, B_FACTOR)
    places = [path.positions(start, float(t)) - centre for t in T]
    return projector, models[0].elements, places


def test_images_equal_the_sum_over_atoms() -> None:
    """The direct sum of f(k) exp(-2 pi i k x) over all atoms, without splatting and without a basis."""
    projector, elements, places = adk()
    images = projector.project(T, ROTATIONS, SHIFTS).numpy()
    ky, kx = np.fft.fftfreq(BOX, PIXEL), np.fft.rfftfreq(BOX, PIXEL)
    k = np.hypot(ky[:, None], kx[None])
    kinds, kind = np.unique(elements, return_inverse=True)
    curves = VOLT_ANGSTROM2 / PIXEL**3 * scattering_factors(kinds.tolist(), k, B_FACTOR)
    inside = k < 0.5 / PIXEL - 1e-9
    for image, place, rotation, shift in zip(images, places, ROTATIONS, SHIFTS, strict=True):
        x, y = (place @ rotation.T)[:, :2].T + shift[:, None]
        exact = np.zeros((BOX, BOX // 2 + 1), dtype=np.complex128)
        for number, curve in enumerate(curves):
            own = kind == number
            waves_y = np.exp(-2j * np.pi * ky[:, None] * y[own])
            exact += curve * (waves_y @ np.exp(-2j * np.pi * kx[:, None] * x[own]).T)
        error = np.abs(image - exact)[inside]
        # Splatting is off by about a percent at the edge of the band and far less inside it.
        assert np.sqrt(np.mean(error**2)) < 2e-3 * np.sqrt(np.mean(np.abs(exact[inside]) ** 2))
        assert error.max() < 2e-3 * np.abs(exact[0, 0])


def test_images_are_projections_of_the_volume_of_their_moment() -> None:
    projector, elements, places = adk()
    images = fourier_to_images(projector.project(T, ROTATIONS, SHIFTS), BOX)
    for image, place, rotation, shift in zip(images, places, ROTATIONS, SHIFTS, strict=True):
        volume = torch.from_numpy(state_volume(elements, place, BOX, PIXEL, B_FACTOR))
        expected = project_volume_reference(
            volume, torch.from_numpy(rotation).float(), torch.from_numpy(shift).float(), PIXEL
        )
        assert float(image.sum() / volume.sum()) == pytest.approx(1.0, rel=1e-3)
        # The reference interpolates linearly, which costs the finest detail; another moment or view gives 0.9.
        assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.995


def test_the_few_basis_curves_reproduce_every_element() -> None:
    projector, elements, _ = adk()
    assert projector._basis.shape[0] == 2
    assert len(set(elements)) == 4
