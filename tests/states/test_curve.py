"""Densities along a path become true to the images, and tell where each image is."""

import numpy as np
import pytest
import torch

from cryoformer.states.curve import CurveReading, read_along_curve
from cryoformer.states.deconvolution import fit_energy
from cryoformer.states.path import DensityPlaces
from toy_images import BOX, Simulated, blob, moving_centre

PLACES = 24


@pytest.fixture(scope="module")
def reading(moving: Simulated) -> CurveReading:
    """Read from densities whose blob is too weak and moves too little, as those of a network do."""
    t = np.linspace(0.02, 0.98, PLACES)
    volumes = torch.stack([moving.still + 0.8 * blob(moving_centre(0.5 + 0.8 * (x - 0.5)), 10.0) for x in t]).float()
    window = (torch.stack([blob(moving_centre(x), 12.0) for x in t]).amax(dim=0) > 0.1).float()
    places = DensityPlaces.fitted("a swing", (PLACES,), t[:, None], volumes)
    return read_along_curve(moving.images, places, window)


def test_images_are_found_where_they_are(reading: CurveReading, moving: Simulated) -> None:
    images = reading.unseen()
    posterior = images.likelihood * images.populations(fit_energy(images, 1e-5))
    posterior /= posterior.sum(axis=1, keepdims=True)
    place = posterior @ np.arange(PLACES)
    assert np.corrcoef(place, moving.t)[0, 1] > 0.9


def test_populations_are_those_of_the_images(reading: CurveReading, moving: Simulated) -> None:
    """Uniform, so every quarter of the path, as the curve measures it, holds a quarter of the images."""
    images = reading.unseen()
    shares = images.populations(fit_energy(images, 1e-5))
    ends = np.searchsorted(np.cumsum(reading.sizes / reading.sizes.sum()), [0.25, 0.5, 0.75])
    for quarter in np.split(shares, ends):
        assert quarter.sum() == pytest.approx(0.25, abs=0.12)
    assert shares[: ends[1]].sum() == pytest.approx(0.5, abs=0.07)


def test_every_image_is_read_under_the_curve_that_has_not_seen_it(reading: CurveReading, moving: Simulated) -> None:
    halves = moving.images.halves.numpy()
    for half in (0, 1):
        expected = reading.under(1 - half).likelihood[halves == half]
        assert np.allclose(reading.unseen().likelihood[halves == half], expected)
    # A curve fits the noise of its own images: they are likelier under it than under the other.
    best = reading.log_likelihoods.max(axis=2)
    own, other = best[halves, np.arange(len(halves))], best[1 - halves, np.arange(len(halves))]
    assert (own - other).mean() > 0


def test_lengths_are_positive_and_add_up_to_the_path(reading: CurveReading) -> None:
    assert reading.sizes.shape == (PLACES,)
    assert reading.sizes.min() > 0
    assert BOX == reading.log_likelihoods.shape[2] == PLACES
