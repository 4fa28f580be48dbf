"""Hash encoding, decoding and query decoder, forward and backward."""

from collections.abc import Callable, Iterator

import torch

from cryoformer.model.hash_grid import HashGrid
from kernel_bench.machine import Work
from kernel_bench.problem import Problem

Kernel = tuple[str, Callable[[], object], Work]


def network_kernels(problem: Problem) -> Iterator[Kernel]:
    """Names, calls and work of the network's parts."""
    yield from _encoding(problem)
    yield from _decoding(problem)
    yield from _queries(problem)


def gradients(output: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> Callable[[], object]:
    """Forward, and backward from a gradient of ones."""

    def run() -> object:
        found = output()
        return torch.autograd.grad(found, inputs, torch.ones_like(found))

    return run


def _encoding(problem: Problem) -> Iterator[Kernel]:
    grid, matrix = problem.model.network.spatial.encoding, problem.points.encoding
    assert isinstance(grid, HashGrid)
    entries, width = 8 * grid.levels * problem.count, grid.features
    table, out = 4 * grid.table.numel(), 4 * grid.width * problem.count

    @torch.no_grad()
    def forward() -> object:
        return grid.encode_fixed(matrix)

    once = Work(
        2 * entries * width,
        8 * entries + table + out,
        "2 F E operations, E = 8 L P entries; bytes: 8 E + table + features",
    )
    twice = Work(2 * once.operations, 2 * once.bytes, "twice the forward pass (M, then its transpose)")
    yield "hash encoding, forward", forward, once
    yield "hash encoding, forward + backward", gradients(lambda: grid.encode_fixed(matrix), [grid.table]), twice
    model = problem.model
    coordinates = problem.points.points_angstrom / (model.box * model.pixel_size_angstrom) + 0.5
    rebuild = Work(
        30 * entries,
        24 * entries,
        "about 30 operations an entry (corner, hash, weight); bytes: M written, read, and its transpose written",
    )
    yield "hash encoding, rebuild", lambda: model.network.prepare_points(coordinates), rebuild


def _decoding(problem: Problem) -> Iterator[Kernel]:
    network, images, points = problem.model.network, problem.images, problem.count
    queries_of = network.config
    n, h, c = queries_of.queries, queries_of.density_hidden, network.spatial.width
    generator = torch.Generator().manual_seed(problem.seed)
    features = torch.rand(points, c, generator=generator).requires_grad_()
    queries = torch.randn(images, n, queries_of.channels, generator=generator).requires_grad_()

    @torch.no_grad()
    def forward() -> object:
        return network.density(features, queries)

    pairs = points * images
    once = Work(
        2 * (n * c + n * h + h) * pairs,
        4 * (points * (c + h) + pairs),
        "products alone: 2 (N c + N h + h) B P, c = 17 features of a point; bytes: features, residual, density",
        images,
    )
    whole = Work(
        2 * (4 * (n * c + n * h) + h) * pairs,
        4 * (3 * points * (c + h) + 2 * pairs),
        "products alone: 2 (4 (N c + N h) + h) B P, of which a quarter is the forward pass computed again",
        images,
    )
    parameters = [p for p in network.head.parameters() if p.requires_grad]
    yield "decoding, forward", forward, once
    everything = [features, queries, *parameters]
    yield "decoding, forward + backward", gradients(lambda: network.density(features, queries), everything), whole


def _queries(problem: Problem) -> Iterator[Kernel]:
    network, images = problem.model.network, problem.images
    config = network.config
    n, c, e, w = config.queries, config.channels, config.feed_forward_expansion, config.encoder_width
    block = 9 * n * c**2 + 4 * n**2 * c + 2 * e * n * c**2
    encoder = config.latent_dimension * w + (config.encoder_layers - 1) * w**2 + w * n * c
    assert network.decoder is not None
    parameters = [*network.encoder.parameters(), *network.decoder.parameters()]
    size = sum(p.numel() for p in parameters)
    latents = problem.latents(images)
    work = Work(
        6 * images * (config.blocks * block + encoder),
        4 * (3 * size + 6 * images * n * c * config.blocks),
        "6 B (blocks (9 N C^2 + 4 N^2 C + 2 e N C^2) + encoder); bytes: parameters 3 times, some activations",
        images,
    )
    run = gradients(lambda: network.queries(network.deformation(latents)), parameters)
    yield "encoder and query decoder, forward + backward", run, work
