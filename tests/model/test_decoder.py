"""Query decoder: eq. 3 of the paper, symmetry among queries, and F_D's way in."""

import pytest
import torch

from cryoformer.model.decoder import Attention, QueryDecoder


def decoder(**settings) -> QueryDecoder:
    torch.manual_seed(0)
    return QueryDecoder(queries=6, channels=8, blocks=2, **settings).double()


def deformation(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_attention_is_equation_three() -> None:
    torch.manual_seed(0)
    attention = Attention(8)
    for layer in (attention.query, attention.key, attention.values[0], attention.output):
        torch.nn.init.eye_(layer.weight)
    torch.nn.init.zeros_(attention.output.bias)
    q, k, v = (torch.randn(2, 5, 8) for _ in range(3))
    expected = torch.softmax(q @ k.mT / 8**0.5, dim=-1) @ v
    torch.testing.assert_close(attention(q, k, v), expected)


def test_values_of_several_sources_add() -> None:
    torch.manual_seed(0)
    attention = Attention(8, value_sources=2)
    q, k, v, w = (torch.randn(2, 5, 8) for _ in range(4))
    zero = torch.zeros_like(v)
    one, other, neither = attention(q, k, v, zero), attention(q, k, zero, w), attention(q, k, zero, zero)
    torch.testing.assert_close(attention(q, k, v, w), one + other - neither)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("values", ["both", "deformation", "queries"])
def test_shapes_and_dependence_on_the_image(heads: int, values: str) -> None:
    made = decoder(heads=heads, values=values)
    queries = made(deformation())
    assert queries.shape == (3, 6, 8)
    assert queries.std(dim=0).mean() > 0.1
    torch.testing.assert_close(made(deformation()[:1]), queries[:1])  # images do not see each other


def test_injection_is_what_carries_an_image_past_the_attention() -> None:
    """With the paper's Attention(Q, F_D, Q) and no injection an image only weighs a mixture: far less comes through."""
    paper = decoder(values="queries", injection=0.0)(deformation()).std(dim=0).mean()
    ours = decoder()(deformation()).std(dim=0).mean()
    assert 0 < paper < 0.1 * ours


def test_queries_have_no_order() -> None:
    made = decoder()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    expected = made(deformation())[:, order]
    with torch.no_grad():
        made.prototypes.copy_(made.prototypes[order])
    torch.testing.assert_close(made(deformation()[:, order]), expected)


def test_without_blocks_the_queries_are_prototypes_and_injection_alone() -> None:
    torch.manual_seed(0)
    made = QueryDecoder(queries=6, channels=8, blocks=0, injection=2.0).double()
    expected = torch.nn.functional.layer_norm(made.prototypes + 2.0 * deformation(), (8,))
    torch.testing.assert_close(made(deformation()), expected)
