"""Latents read twice: as different as they should be where the noise is what it is said to be, and only there."""

from dataclasses import replace

import pytest
import torch

from cryoformer.images.fourier_images import FourierImages, checkerboard
from cryoformer.validate.split_images import (
    SplitTest,
    sample_rows,
    simulated_residuals,
    split_images,
    split_outcome,
)
from decode.test_latent_posterior import KnownDecoder
from toy_images import BOX, Simulated, simulate


@pytest.fixture(scope="module")
def seen() -> Simulated:
    return simulate(200, noise=0.7, seed=2)


def split(seen: Simulated, images: FourierImages) -> SplitTest:
    latents = torch.linspace(0, 1, 40)[:, None]
    return split_images(KnownDecoder(seen.still), images, latents, states=40, seed=0)


def test_right_noise_gives_a_factor_of_one(seen: Simulated) -> None:
    test = split(seen, seen.images)
    low, high = test.interval()
    assert low < 1.0 < high
    assert test.factor == pytest.approx(1.0, abs=0.15)
    assert split_outcome(test).verdict == "holds"


def test_noise_said_to_be_too_small_is_found_out(seen: Simulated) -> None:
    boastful = seen.images.with_noise(seen.images.noise_power / 3.0)
    test = split(seen, replace(boastful))
    assert test.factor > 1.25
    outcome = split_outcome(test)
    assert outcome.verdict == "fails"
    assert "multiply" in outcome.sentence


def test_halves_of_an_image_are_apart_and_complete(seen: Simulated) -> None:
    first, second = checkerboard(seen.images)
    assert torch.equal(first.coefficients + second.coefficients, seen.images.coefficients)
    assert torch.equal(first.ctf + second.ctf, seen.images.ctf)
    assert not (first.coefficients.abs() * second.coefficients.abs()).any()
    share = float((first.coefficients != 0).float().mean())
    assert share == pytest.approx(0.5, abs=0.01)


def test_simulated_twin_holds_what_the_decoder_says(seen: Simulated) -> None:
    model, latents = KnownDecoder(seen.still), torch.full((200, 1), 0.9)
    quiet = seen.images.with_noise(torch.full((BOX // 2 + 1,), 1e-12))
    points = model.points(BOX)
    some = quiet.take(torch.arange(3))
    twins = simulated_residuals(model, some, latents[:3], seed=0)
    assert torch.allclose(twins.coefficients, model.project(points, model.decode(points, latents[:3]), some), atol=1e-3)


def test_sampled_rows_are_spread_over_all() -> None:
    assert sample_rows(10, 20).tolist() == list(range(10))
    rows = sample_rows(1001, 11)
    assert rows.tolist() == list(range(0, 1001, 100))
