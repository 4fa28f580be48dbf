"""Back-projection: right density, right noise, and nothing left when the density is taken off."""

import torch

from cryoformer.linear.consensus import reconstruct_consensus, wiener_backprojection
from cryoformer.linear.local_filter import local_wiener
from toy_images import PIXEL, blob


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.reshape(-1), b.reshape(-1)]))[0, 1])


def test_consensus_is_the_mean_density_on_its_own_scale(moving) -> None:
    truth = torch.stack([moving.density(t) for t in moving.t.tolist()]).mean(dim=0)
    consensus = reconstruct_consensus(moving.images)
    assert correlation(consensus.volume, truth) > 0.98
    scale = float((consensus.volume * truth).sum() / truth.square().sum())
    assert abs(scale - 1) < 0.05  # the Wiener filter shrinks a little
    assert float(consensus.half_map_fsc[1:4].min()) > 0.9


def test_noise_spectrum_is_found_whatever_is_assumed_at_first(moving) -> None:
    wrong = moving.images.with_noise(torch.ones_like(moving.images.noise_power))
    found = reconstruct_consensus(wrong).noise_power
    # Beyond the shells that hold heterogeneity, white noise of variance 0.7^2 per pixel. 600 images average it well.
    expected = moving.images.noise_power
    assert torch.allclose(found[5:12], expected[5:12], rtol=0.1)


def test_true_density_leaves_noise_only(moving) -> None:
    residual = moving.images.minus(moving.density(0.5)).coefficients
    before, after = moving.images.coefficients[:, 1, 0].abs().mean(), residual[:, 1, 0].abs().mean()
    assert float(after) < 0.6 * float(before)


def test_what_is_subtracted_is_not_reconstructed(moving) -> None:
    nothing = wiener_backprojection(moving.images, lambda rows, images: images.coefficients)
    assert float(nothing.volume.abs().max()) == 0.0
    assert float(nothing.half_map_fsc.abs().max()) == 0.0


def test_local_filter_takes_noise_off_the_solvent_and_keeps_the_density(moving) -> None:
    truth = torch.stack([moving.density(t) for t in moving.t.tolist()]).mean(dim=0)
    found = wiener_backprojection(moving.images)
    local = found.local(PIXEL)
    solvent = truth < 1e-3 * truth.max()
    assert float(local[solvent].std()) < 0.7 * float(((found.halves[0] + found.halves[1]) / 2)[solvent].std())
    assert correlation(local, truth) > 0.98


def test_bands_of_the_local_filter_add_up() -> None:
    """Two equal halves agree everywhere: nothing may be taken off."""
    volume = blob((10.0, 0.0, -20.0), 10.0)
    assert torch.allclose(local_wiener(volume, volume, PIXEL), volume, atol=1e-4)
