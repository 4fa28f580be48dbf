"""The held-out filter: it keeps what is true, drops what is not, and never sees the images trained on."""

import pytest
import torch

from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.training.encoder_inputs import KnownLatents
from cryoformer.training.held_out_filter import _falling, held_out_filter, split_held_out
from decode.test_latent_posterior import KnownDecoder
from toy_images import BOX, PIXEL


class Decoder(KnownDecoder):
    """The truth times a factor, with noise of its own that no image holds."""

    def __init__(self, base: torch.Tensor, factor: float, noise: float) -> None:
        super().__init__(base)
        self.factor, self.noise = factor, noise

    def decode(self, points, latents):
        wrong = torch.randn(len(latents), len(points.voxels), generator=torch.Generator().manual_seed(0))
        return self.factor * super().decode(points, latents) + self.noise * wrong


def found(moving, factor: float, noise: float):
    model = Decoder(moving.still, factor, noise)
    latents = KnownLatents(torch.tensor(moving.t, dtype=torch.float32)[:, None])
    return held_out_filter(model, model.points(24), moving.images.minus(moving.still), latents, torch.arange(0, 600, 3))


def test_truth_passes_whole_at_low_frequency(moving) -> None:
    result = found(moving, 1.0, 0.0)
    assert float(result.gain[1:4].min()) > 0.9
    assert result.log_likelihood > 0


def test_half_the_truth_is_not_amplified_and_twice_the_truth_is_halved(moving) -> None:
    assert float(found(moving, 0.5, 0.0).gain.max()) <= 1.0
    assert abs(float(found(moving, 2.0, 0.0).gain[1]) - 0.5) < 0.1


def test_log_likelihood_is_that_of_white_noise_in_the_pixels(moving) -> None:
    """Against the density of independent Gaussian pixels, of what is left with and without the moving part."""
    gain = found(moving, 1.0, 0.0).log_likelihood
    rows = torch.arange(0, 600, 3)
    images = moving.images.take(rows)
    density = torch.stack([moving.density(t).reshape(-1) for t in moving.t[::3].tolist()])
    still = moving.still.reshape(1, -1).expand(len(rows), -1)
    left = []
    for each in (density, still):
        clean = splat_project(each, grid_points(BOX, PIXEL), images.rotations, None, BOX, PIXEL) * images.ctf
        left.append(torch.fft.irfft2(images.coefficients - clean, s=(BOX, BOX)))
    pixels = torch.distributions.Normal(0.0, 0.7)
    expected = float((pixels.log_prob(left[0]) - pixels.log_prob(left[1])).sum(dim=(1, 2)).mean())
    # The body that is taken off before is projected by slices, which are good to a few per cent.
    assert gain == pytest.approx(expected, rel=0.05)


def test_noise_is_held_back(moving) -> None:
    result = found(moving, 0.0, 1.0)
    assert float(result.gain[2:].max()) < 0.2
    assert result.log_likelihood < 0


def test_factor_falls_and_empty_shells_take_their_neighbours() -> None:
    gain = _falling(torch.tensor([1.0, 0.5, 0.8, 0.0, -1.0]), torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0]))
    assert torch.all(gain[1:] <= gain[:-1])
    assert float(gain[1]) == float(gain[2])  # pooled
    assert float(gain[4]) == 0.0


def test_held_out_and_trained_on_share_nothing_and_miss_none() -> None:
    for count in (30, 1000, 10_000):
        train, held = split_held_out(torch.arange(count), seed=0)
        assert sorted([*train.tolist(), *held.tolist()]) == list(range(count))
        assert len(held) in (3, 100, 500)
