"""CryoFormer as a whole: every variant runs, conditioning is alive from the start, and a small motion is learnt."""

import math

import pytest
import torch

from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.density_heads import PointHead
from cryoformer.model.model_config import ModelConfig

SMALL = {"queries": 8, "channels": 16, "hash_levels": 4, "density_hidden": 16, "encoder_width": 32, "encoder_layers": 3}
VARIANTS = {
    "default": {},
    "paper": {"query_injection": 0.0, "cross_attention_values": "queries", "encoder_residual": False},
    "no residual": {"spatial_residual": False},
    "mlp": {"encoder": "mlp"},
    "token": {"spatial_attention": "token"},
    "concatenate": {"decoder": "concatenate"},
    "positional": {"spatial_encoding": "positional", "positional_width": 32},
}


def model(seed: int = 0, **settings) -> CryoFormer:
    torch.manual_seed(seed)
    return CryoFormer(ModelConfig(**(SMALL | settings)), box=32)


def inputs(made: CryoFormer, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if made.config.encoder == "mlp":
        return torch.randn(count, 32, 32, generator=generator)
    return torch.randn(count, made.config.latent_dimension, generator=generator)


def points(count: int) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_decodes_and_every_parameter_learns(name: str) -> None:
    made = model(**VARIANTS[name])
    where, given = points(60), inputs(made, 6)
    density = made(where, given)
    assert density.shape == (6, 60)
    prepared = made(made.prepare_points(where), given)
    torch.testing.assert_close(prepared, density, atol=1e-5, rtol=1e-4)
    (density - torch.randn(6, 60)).square().sum().backward()
    dead = [n for n, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias that adds the same to all logits of a softmax has no say; nothing else may be without a gradient.
    assert not dead, dead


@pytest.mark.parametrize("box", [32, 64, 128])
def test_the_start_is_small_near_zero_mean_and_depends_on_the_latent(box: int) -> None:
    torch.manual_seed(0)
    made = CryoFormer(ModelConfig(), box)
    with torch.no_grad():
        density = made(points(500), torch.randn(50, 8))
    # Relative to the density expected, of standard deviation 1: small, so that little has to be unlearnt.
    assert abs(density.mean()) < 0.2
    assert 0.01 < density.std() < 0.3
    over_latents, over_space = density.std(dim=0).mean(), density.mean(dim=0).std()
    assert over_latents > 0.2 * over_space
    # Not the same shift everywhere, for no data ask for that: part of what a latent does is local.
    centred = density - density.mean(dim=0)
    local = centred - centred.mean(dim=1, keepdim=True)
    assert local.std() > 0.1 * centred.std()


def test_the_paper_s_volume_of_features_gives_the_same_attention() -> None:
    """Folding the tiny MLP's output layer into the keys changes nothing: F_S K^T is phi (K A^T)^T."""
    made = model().double()
    head = made.head
    assert isinstance(head, PointHead)
    where, given = points(40).double(), inputs(made, 3).double()
    features, queries = made.spatial_features(where), made.queries(made.deformation(given))
    volume = head.feature_volume(features)
    logits = torch.einsum("pc,bnc->bpn", volume, head.key(queries)) / math.sqrt(16) * head.log_sharpness.exp()
    maps = torch.softmax(logits, dim=-1)
    torch.testing.assert_close(made.attention(features, queries), maps)
    hidden = torch.relu(maps @ head.value(queries) + volume @ head.residual_weight + head.residual_bias)
    torch.testing.assert_close(made.density(features, queries), hidden @ head.w2 + head.b2)


def test_attention_over_space_sums_to_one_and_starts_uneven() -> None:
    for name in ("default", "token"):
        made = model(**VARIANTS[name])
        features, queries = made.spatial_features(points(200)), made.queries(made.deformation(inputs(made, 4)))
        maps = made.attention(features, queries)
        torch.testing.assert_close(maps.sum(dim=-1), torch.ones(4, 200))
        assert maps.std(dim=1).mean() > 0.01
    made = model(**VARIANTS["concatenate"])
    with pytest.raises(ValueError, match="concatenate"):
        made.attention(made.spatial_features(points(5)), made.deformation(inputs(made, 2)))


def test_density_scale_and_state_survive_saving() -> None:
    made = model()
    before = made(points(30), inputs(made, 2))
    made.set_density_scale(2.5)
    torch.testing.assert_close(made(points(30), inputs(made, 2)), 2.5 * before)
    other = model(seed=5)
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(other(points(30), inputs(made, 2)), made(points(30), inputs(made, 2)))


def test_second_derivatives_are_there_for_those_who_ask() -> None:
    made = model()
    made.set_attention_method("plain")
    features = made.spatial_features(points(10)).detach()
    jacobian = torch.func.jacfwd(lambda z: made.density(features, made.queries(made.deformation(z[None])))[0])(
        torch.zeros(8)
    )
    assert jacobian.shape == (10, 8)
    assert jacobian.abs().sum() > 0


def test_parameter_groups_are_all_parameters_once() -> None:
    made = model()
    groups = made.parameter_groups()
    assert sum(p.numel() for group in groups.values() for p in group) == sum(p.numel() for p in made.parameters())
    assert groups["tables"][0] is made.spatial.encoding.table


def test_two_states_of_one_molecule_are_learnt_from_a_latent() -> None:
    """A tenth of 500 points holds density in one state or the other, by the sign of a one-dimensional latent."""
    torch.manual_seed(0)
    where = points(500)
    here, there = where[:, 0] < 0.1, (where[:, 0] > 0.45) & (where[:, 0] < 0.55)
    still = torch.sin(12 * where[:, 1]) * torch.cos(9 * where[:, 2])
    states = torch.stack((still + 1.5 * here, still + 1.5 * there))
    made = CryoFormer(ModelConfig(latent_dimension=1), box=32)
    prepared, groups = made.prepare_points(where), made.parameter_groups()
    optimiser = torch.optim.Adam([{"params": groups["tables"], "lr": 1e-2}, {"params": groups["networks"]}], lr=1e-3)
    for _ in range(120):
        state = torch.randint(2, (8,))
        latents = (2.0 * state - 1.0)[:, None] + 0.2 * torch.randn(8, 1)
        loss = (made(prepared, latents) - states[state]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = made(prepared, torch.tensor([[-1.0], [1.0]]))
    assert (found - states).square().mean() < 0.05 * states.var()
    difference, truth = found[0] - found[1], states[0] - states[1]
    # What the latent does, and to nothing else: the mean density alone would leave all of it.
    assert (difference - truth).square().mean() < 0.1 * truth.square().mean()
