"""The network over frequencies: real densities by construction, the same for slices and volumes; all of it learns."""

import pytest
import torch

from cryoformer.decode.factory import new_network
from cryoformer.errors import InputError
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.fourier import FourierCryoFormer, in_lower_half
from cryoformer.model.model_config import ModelConfig

SMALL = {"queries": 8, "channels": 16, "hash_levels": 4, "density_hidden": 16, "encoder_width": 32, "encoder_layers": 3}


@pytest.fixture
def made() -> FourierCryoFormer:
    torch.manual_seed(0)
    network = new_network(ModelConfig(domain="fourier", latent_dimension=2, **SMALL), box=16)
    assert isinstance(network, FourierCryoFormer)
    network.set_amplitude(torch.linspace(9.0, 1.0, 9))
    return network


def frequencies(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    whole = torch.randint(-7, 8, (count, 3), generator=generator).float()
    whole[: count // 2, 0] = 0  # on the plane that both half spaces touch
    whole[: count // 4, 1] = 0
    return torch.cat([whole, 14 * torch.rand(count, 3, generator=generator) - 7])


@torch.no_grad()
def test_coefficients_are_those_of_real_densities(made) -> None:
    k, latents = frequencies(40)[None], torch.randn(3, 2)
    there, mirrored = made.coefficients(k, latents), made.coefficients(-k, latents)
    torch.testing.assert_close(mirrored, there.conj())
    assert there.imag.abs().max() > 0.1
    mean = made.coefficients(torch.zeros(1, 1, 3), latents)
    assert mean.real.abs().min() > 0
    assert mean.imag.abs().max() == 0


def test_one_half_space_or_the_other() -> None:
    k = frequencies(40)
    k = k[(k != 0).any(dim=1)]
    assert (in_lower_half(k) != in_lower_half(-k)).all()


def test_frequencies_of_its_own_or_shared_by_all_are_the_same_function(made, monkeypatch) -> None:
    k, latents = frequencies(10), torch.randn(3, 2)
    own = made.coefficients(k.expand(3, -1, -1), latents)
    torch.testing.assert_close(made.coefficients(k[None], latents), own)
    monkeypatch.setattr("cryoformer.model.fourier.CHUNK_ELEMENTS", 500)
    with torch.no_grad():  # in chunks
        torch.testing.assert_close(made.coefficients(k[None], latents), own.detach())


@torch.no_grad()
def test_size_follows_the_amplitude(made) -> None:
    k, latents = torch.tensor([[[0.5, 0.0, 0.0]]]), torch.zeros(1, 2)
    before = made.coefficients(k, latents)
    made.set_amplitude(torch.tensor([4.0, 8.0, *[0.0] * 7]))
    torch.testing.assert_close(made.coefficients(k, latents), before * 6.0 / 8.5)


def test_every_parameter_learns(made) -> None:
    (made.coefficients(frequencies(60).expand(4, -1, -1), torch.randn(4, 2)) - 1.0).abs().square().sum().backward()
    dead = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead, dead


def test_only_the_transformer_over_points_has_a_fourier_form() -> None:
    for setting in ({"decoder": "concatenate"}, {"spatial_attention": "token"}):
        with pytest.raises(InputError, match="domain"):
            ModelConfig(domain="fourier", **setting)
    assert type(new_network(ModelConfig(**SMALL), box=16)) is CryoFormer
