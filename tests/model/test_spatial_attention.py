"""Density by spatial attention: fast forms against the plain twin, values and gradients."""

import itertools

import pytest
import torch

from cryoformer.model import tiled_attention
from cryoformer.model.spatial_attention import (
    attention_maps,
    point_density,
    point_density_chunked,
    point_density_plain,
    token_density,
)
from cryoformer.model.tiled_attention import point_density_tiled, small_operations


def operands(points: int = 23, images: int = 5, dtype: torch.dtype = torch.float64, size: float = 1.0) -> list:
    generator = torch.Generator().manual_seed(0)
    shapes = [(points, 5), (images, 7, 5), (images, 7, 6), (points, 6), (6,), ()]
    made = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    made[0], made[1] = made[0] * size, made[1] * size
    return [x.requires_grad_() for x in made]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles and several groups of images, neither of which divides the whole."""
    monkeypatch.setattr(tiled_attention, "TILE_IMAGES", 2)
    monkeypatch.setattr(tiled_attention, "TILE_ELEMENTS", 1)  # the least: 16 points


def chunked(*arguments: torch.Tensor) -> torch.Tensor:
    return point_density_chunked(*arguments, chunk_elements=200)


@pytest.mark.usefixtures("small_tiles")
def test_gradcheck_of_the_tiled_function() -> None:
    assert torch.autograd.gradcheck(point_density_tiled, operands(points=19, images=3))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("compute", [point_density_tiled, chunked])
@pytest.mark.parametrize("size", [1.0, 20.0])  # at 20 the logits pass what is safe without subtracting the maximum
def test_fast_forms_agree_with_the_twin_in_double_precision(compute, size: float) -> None:
    arguments = operands(size=size)
    expected = point_density_plain(*arguments)
    weight = torch.randn(expected.shape, dtype=torch.float64)
    found = compute(*arguments)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found, arguments, weight), torch.autograd.grad(expected, arguments, weight), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_tiled_agrees_with_the_twin_in_single_precision() -> None:
    torch.manual_seed(0)
    shapes = [(700, 17), (20, 64, 17), (20, 64, 64), (700, 64), (64,), ()]
    arguments = [torch.randn(shape).requires_grad_() for shape in shapes]
    expected, found = point_density_plain(*arguments), point_density_tiled(*arguments)
    weight = torch.randn(expected.shape)
    # float32 carries 6e-8; a sum of 64 terms of order one loses about ten times that, relative to its size.
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()
    ours, theirs = (torch.autograd.grad(x, arguments, weight) for x in (found, expected))
    for name, a, b in zip(("features", "keys", "values", "residual", "w2", "b2"), ours, theirs, strict=True):
        # Sums over up to 14,000 points and images; a unit at the edge of its ReLU may fall on either side.
        assert (a - b).norm() < 2e-4 * b.norm(), name


def test_logits_beyond_the_range_of_floats_stay_finite() -> None:
    arguments = [x.detach().requires_grad_() for x in operands(dtype=torch.float32)]
    with torch.no_grad():
        arguments[0].mul_(1e3)
    found, expected = point_density_tiled(*arguments), point_density_plain(*arguments)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert all(g.isfinite().all() for g in torch.autograd.grad(found.sum(), arguments))


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("wanted", [c for n in (1, 2) for c in itertools.combinations(range(6), n)])
def test_any_inputs_may_be_without_gradient(wanted: tuple[int, ...]) -> None:
    arguments = [x.detach().requires_grad_(i in wanted) for i, x in enumerate(operands())]
    some = [arguments[i] for i in wanted]
    for a, b in zip(
        torch.autograd.grad(point_density_tiled(*arguments).sum(), some),
        torch.autograd.grad(point_density_plain(*arguments).sum(), some),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_without_points_there_is_no_density() -> None:
    arguments = operands(points=0)
    density = point_density_tiled(*arguments)
    assert density.shape == (5, 0)
    density.sum().backward()
    assert not arguments[1].grad.any()


@pytest.mark.parametrize("method", ["auto", "plain", "tiled", "chunked"])
def test_points_do_not_see_each_other(method: str) -> None:
    features, keys, values, residual, w2, b2 = operands()
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    straight = point_density(features, keys, values, residual, w2, b2, method=method)
    shuffled = point_density(features[order], keys, values, residual[order], w2, b2, method=method)
    torch.testing.assert_close(shuffled, straight[:, order])


def test_a_query_that_everyone_attends_to_gives_its_values() -> None:
    features, keys, values, residual, w2, b2 = (x.detach() for x in operands())
    features[:, 0], keys[:] = 1.0, 0.0
    keys[:, 3, 0] = 1e4
    expected = torch.relu(values[:, 3:4] + residual) @ w2 + b2
    torch.testing.assert_close(point_density_tiled(features, keys, values, residual, w2, b2), expected)


def test_attention_maps_are_weights_and_make_the_density() -> None:
    features, keys, values, residual, w2, b2 = operands()
    maps = attention_maps(features, keys)
    assert maps.shape == (5, 23, 7)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(5, 23, dtype=torch.float64))
    expected = torch.relu(torch.einsum("bpn,bnh->bph", maps, values) + residual) @ w2 + b2
    torch.testing.assert_close(point_density(features, keys, values, residual, w2, b2), expected)


def test_token_form_is_attention_of_the_queries_over_the_tokens_of_a_point() -> None:
    torch.manual_seed(0)
    features, to_tokens = torch.randn(9, 4).double(), torch.randn(4, 7, 5).double()
    queries, values = torch.randn(3, 7, 5).double(), torch.randn(3, 7, 6).double()
    bias, w2, b2 = torch.randn(6).double(), torch.randn(6).double(), torch.randn(()).double()
    arguments = [x.requires_grad_() for x in (features, to_tokens, queries, values, bias, w2, b2)]
    found = token_density(*arguments, chunk_elements=500)  # some points a chunk
    expected = torch.empty_like(found)
    for i, p in itertools.product(range(3), range(9)):
        tokens = torch.einsum("f,fnc->nc", features[p], to_tokens)
        mixed = torch.softmax(queries[i] @ tokens.T / 5**0.5, dim=-1) @ values[i]
        expected[i, p] = (torch.relu(mixed + bias) @ w2 + b2).mean()
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.sum(), arguments), torch.autograd.grad(expected.sum(), arguments), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_step_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        with small_operations():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 8
    finally:
        torch.set_num_threads(before)
