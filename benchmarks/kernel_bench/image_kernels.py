"""Splatting, transform + CTF + loss, preparation of images, back-projection."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from cryoformer.formats.load import load_particles
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.projection import OVERSAMPLING, image_band, splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import SlicePlane
from cryoformer.linear.consensus import backprojection_equations
from cryoformer.particles.stack_writer import StackWriter
from cryoformer.training.trainer import loss_weights
from kernel_bench.machine import Work
from kernel_bench.network_kernels import Kernel, gradients
from kernel_bench.problem import PIXEL_ANGSTROM, Problem


def image_kernels(problem: Problem) -> Iterator[Kernel]:
    """Names, calls and work of what happens to images."""
    yield from _splatting(problem)
    yield from _loss(problem)
    yield from _preparation(problem)
    yield from _backprojection(problem)


def fft_operations(side: int) -> float:
    """Of a real transform of side^2 pixels: half of the usual 5 n log2 n."""
    return 2.5 * side**2 * math.log2(side**2)


def band_operations(box: int) -> float:
    """Of the two products that take the band of a box from the fine grid."""
    fine, columns = fine_side(box), 2 * (box // 2 + 1)
    return 2.0 * fine * columns * (fine + 2 * box)


def fine_side(box: int) -> int:
    return 2 * round(OVERSAMPLING * box / 2)


def _splatting(problem: Problem) -> Iterator[Kernel]:
    points, box, b = problem.points, problem.box, problem.images
    images = problem.fourier_images(b)
    fine, pairs, plane = fine_side(box), problem.count * b, box * (box // 2 + 1)
    density = torch.rand(b, problem.count).requires_grad_()

    def project() -> torch.Tensor:
        return splat_project(density, points.points_angstrom, images.rotations, None, box, images.pixel_size_angstrom)

    @torch.no_grad()
    def forward() -> object:
        return project()

    once = Work(
        26 * pairs + b * band_operations(box),
        b * (4 * fine**2 + 8 * plane) + 28 * pairs,
        "26 B P (rotate, 4 weights, 4 sums) + the band; bytes: 28 B P (positions written, read "
        "twice; values) + grid + half-plane",
        b,
    )
    twice = Work(2 * once.operations, 2 * once.bytes, "twice the forward pass (gather in place of scatter)", b)
    yield "splatting with its transform, forward", forward, once
    yield "splatting with its transform, forward + backward", gradients(project, [density]), twice


def _loss(problem: Problem) -> Iterator[Kernel]:
    box, b = problem.box, problem.images
    images, fine = problem.fourier_images(b), fine_side(box)
    weights = loss_weights(images)
    grid = torch.rand(b, 1, fine, fine).requires_grad_()

    def run() -> object:
        predicted = image_band(grid, box)[:, 0] * images.ctf
        difference = torch.view_as_real(images.coefficients - predicted)
        loss = (difference.square().sum(-1) * weights).sum() / b
        return torch.autograd.grad(loss, grid)

    plane = box * (box // 2 + 1)
    work = Work(
        b * (2 * band_operations(box) + 24 * plane),
        b * (8 * fine**2 + 56 * plane),
        "the band twice + 24 a coefficient; bytes: grid, its gradient, 56 a coefficient",
        b,
    )
    yield "band + CTF + loss, forward + backward", run, work


def _preparation(problem: Problem) -> Iterator[Kernel]:
    box, count = problem.box, max(64, min(1000, 2**22 // problem.box**2))
    folder = Path(tempfile.mkdtemp())
    write_stack(folder, count, box, problem.seed)
    particles = load_particles(folder / "particles.star")
    plane = box * (box // 2 + 1)
    work = Work(
        count * (fft_operations(box) + 6 * box**2 + 70 * plane),
        count * (12 * box**2 + 8 * plane * 4 + 4 * plane * 2),
        "FFT + 6 a pixel (normalise) + 70 a coefficient (phases, CTF); bytes: pixels 3 times, half-plane 4, CTF twice",
        count,
    )
    yield (
        "image preparation, from a stack on disk",
        lambda: prepare_images(particles, folder / "cache", ImageSettings(invert="no")),
        work,
    )
    shutil.rmtree(folder)


def write_stack(folder: Path, count: int, box: int, seed: int) -> None:
    """Noise as a RELION stack."""
    rng = np.random.default_rng(seed)
    writer = StackWriter(folder, count, box, np.dtype(np.float32), [PIXEL_ANGSTROM], count)
    writer.write(rng.standard_normal((count, box, box), dtype=np.float32))
    writer.finish()
    one = torch.ones(count)
    defocus = torch.tensor(rng.uniform(8000, 16000, count), dtype=torch.float32)
    write_particles_star(
        folder / "particles.star",
        image_names=[f"{i + 1:06d}@particles.mrcs" for i in range(count)],
        rotations=np.asarray(uniform_rotations(count, seed), dtype=np.float64),
        shifts_angstrom=rng.uniform(-4, 4, (count, 2)),
        ctf=CTFParameters(defocus, defocus + 200, 30 * one, 300 * one, 2.7 * one, 0.1 * one, 0 * one, 0 * one),
        pixel_size_angstrom=PIXEL_ANGSTROM,
        box=box,
        half_set=None,
    )


def _backprojection(problem: Problem) -> Iterator[Kernel]:
    count = max(64, min(1024, 2**22 // problem.box**2))
    images = problem.fourier_images(count)
    corners = 8 * len(SlicePlane.of_box(problem.box).index) * count
    work = Work(
        10 * corners,
        32 * corners,
        "10 an entry (weight, two products, three sums), 8 entries a coefficient; bytes: 32 an entry (voxel read and "
        "written, index, weight)",
        count,
    )
    every: Callable[[], object] = lambda: backprojection_equations(images, torch.arange(count))  # noqa: E731
    yield "back-projection: normal equations", every, work
