"""Junk is told from particles by how it fits, and good images score 0 +- 1 whatever their view and defocus."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cryoformer.decode.density_model import ConformationModel
from cryoformer.imaging.fourier import shift_phases
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig
from cryoformer.run.outlier_score import DROP_ABOVE, _states, outlier_scores
from toy_images import BOX, PIXEL, Simulated, blob, simulate

JUNK = 60


@pytest.fixture(scope="module")
def still() -> Simulated:
    return simulate(600, noise=0.7, seed=5, moves=False)


def model(density: torch.Tensor) -> ConformationModel:
    """This density at every latent: the network has nothing to decode."""
    torch.manual_seed(0)
    settings = ModelConfig(latent_dimension=2, queries=4, channels=4, blocks=1, encoder_layers=1)
    window = torch.zeros(BOX, BOX, BOX)
    window[0, 0, 0] = 1
    network = CryoFormer(settings, BOX)
    network.set_density_scale(1e-9)
    return ConformationModel(network, density, window, PIXEL)


def scores(made: Simulated, images=None, latents=None, density=None) -> np.ndarray:
    images = made.images if images is None else images
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(len(images), 2, generator=generator) if latents is None else latents
    decoder = model(made.density(0.5) if density is None else density)
    return outlier_scores(images, decoder, latents, torch.arange(0, len(images), 3), seed=0).numpy()


def with_junk(made: Simulated, kind: str):
    """The images, the first of them junk."""
    images = made.images
    coefficients, rows = images.coefficients.clone(), slice(0, JUNK)
    generator = torch.Generator().manual_seed(1)
    noise = torch.fft.rfft2(0.7 * torch.randn(JUNK, BOX, BOX, generator=generator))
    if kind == "noise":
        coefficients[rows] = noise
    elif kind == "off_centre":
        coefficients[rows] *= shift_phases(torch.tensor([[20.0, -15.0]]).expand(JUNK, 2), BOX, PIXEL)
    else:
        # Another molecule of about the same size and mass.
        other = blob((15.0, 10.0, -20.0), 12.0) + blob((-15.0, -10.0, 10.0), 12.0) + blob((0.0, 25.0, 20.0), 8.0)
        empty = replace(images, coefficients=torch.zeros_like(coefficients))
        coefficients[rows] = noise - empty.minus(other).coefficients[rows]
    return replace(images, coefficients=coefficients)


@pytest.mark.parametrize("kind", ["noise", "off_centre", "foreign"])
def test_junk_of_every_kind(still, kind):
    found = scores(still, with_junk(still, kind))
    assert roc_auc_score(np.arange(len(found)) < JUNK, found) > 0.99
    assert (found[:JUNK] > DROP_ABOVE).mean() > 0.9
    assert (found[JUNK:] > DROP_ABOVE).mean() < 0.01


def test_good_images_score_like_a_normal_distribution(still):
    found = scores(still)
    assert abs(float(np.median(found))) < 0.15
    assert 0.85 < found.std() < 1.15
    # Neither strong nor weak images are favoured.
    strength = still.images.ctf.square().mean(dim=(1, 2)).numpy()
    assert abs(np.corrcoef(strength, found)[0, 1]) < 0.15


def test_contrasts_that_scatter_are_no_junk(still):
    contrast = 1 + 0.2 * torch.randn(600, generator=torch.Generator().manual_seed(2)).clamp(-2, 2)
    noise = still.images.minus(still.density(0.5)).coefficients
    clean = still.images.coefficients - noise
    images = replace(still.images, coefficients=clean * contrast[:, None, None] + noise)
    assert (scores(still, images) > DROP_ABOVE).mean() < 0.01


def test_the_scale_of_the_density_does_not_matter(still):
    """Junk among the images makes the reconstruction weaker than the particles."""
    images = with_junk(still, "noise")
    weak = scores(still, images, density=0.8 * still.density(0.5))
    assert (weak[:JUNK] > DROP_ABOVE).mean() > 0.9
    assert (weak[JUNK:] > DROP_ABOVE).mean() < 0.01


def test_latents_far_out_are_compared_with_the_nearest_of_the_usual():
    latents = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    latents[:30] = torch.tensor([9.0, -3.0])
    centres, of_image = _states(latents, seed=0)
    assert float(centres.abs().max()) < 3
    nearest = torch.cdist(latents[:30], centres[1:]).argmin(dim=1)
    assert of_image[:30].tolist() == (1 + nearest).tolist()
    # All others have a state of their own neighbourhood.
    usual = (latents.abs() < 2).all(dim=1)
    assert float((centres[of_image[usual]] - latents[usual]).norm(dim=1).max()) < 1.5


def test_a_faint_state_of_its_own_is_no_excuse(still):
    """Empty images may make a run a state of weak density, which fits them."""

    class Faint(ConformationModel):
        """The first latent scales the density."""

        def decode(self, points, latents):
            whole = self.dense.reshape(-1)[points.voxels] / points.volume_ratio
            return whole * (1 + latents[:, :1])

    images, density = with_junk(still, "noise"), still.density(0.5)
    made = model(torch.zeros_like(density))
    made.window = torch.ones_like(density)
    made.__class__, made.dense = Faint, density
    latents = 0.4 * torch.randn(600, 2, generator=torch.Generator().manual_seed(4))
    # Not so far out that they would be told by that.
    latents[:JUNK, 0] = -0.9
    found = outlier_scores(images, made, latents, torch.arange(0, 600, 3), seed=0).numpy()
    assert (found[:JUNK] > DROP_ABOVE).mean() > 0.8
    # Their latents are drawn here, and not what their images show.
    assert (found[JUNK:] > DROP_ABOVE).mean() < 0.1
