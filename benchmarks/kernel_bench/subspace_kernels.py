"""E-step and M-step of the linear subspace, and the whole stage."""

import math
from collections.abc import Iterator
from typing import Any

import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.slices import PADDING, SlicePlane, padded_shape
from cryoformer.linear.ppca import PPCA, expectation, fit_ppca, maximisation
from kernel_bench.machine import Machine, Work
from kernel_bench.network_kernels import Kernel
from kernel_bench.problem import Problem


class SubspaceProblem:
    """White noise images and a random subspace of ``dimension`` components."""

    def __init__(self, box: int, dimension: int, count: int, seed: int) -> None:
        self.box, self.dimension, self.count, self.seed = box, dimension, count, seed
        self.images: FourierImages = Problem(box, 0, 0, seed).fourier_images(count)
        axis = torch.arange(box) - box // 2
        self.mask = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < (0.35 * box) ** 2).float()
        generator = torch.Generator().manual_seed(seed)
        volumes = torch.randn(dimension + 1, box, box, box, generator=generator) * self.mask
        self.start = PPCA(
            mean=volumes[0],
            basis=volumes[1:],
            latents=torch.zeros(count, dimension),
            covariance=torch.eye(dimension).expand(count, -1, -1),
            log_likelihood=0.0,
        )

    def kernels(self) -> Iterator[Kernel]:
        """E-step, M-step, and an iteration of both."""
        q = self.dimension + 1
        coefficients = self.count * len(SlicePlane.of_box(self.box).index)
        corners, shape = 8 * coefficients, padded_shape(self.box)
        voxels = shape[0] * shape[1] * shape[2]
        solved = 2 / 3 * math.pi * (PADDING * self.box / 2) ** 3
        transform = 2.5 * (PADDING * self.box) ** 3 * math.log2((PADDING * self.box) ** 3) * q
        channels, pairs = 2 * (q + 1), q * (q + 1) // 2
        expect = Work(
            corners * 2 * channels + coefficients * 2 * 2 * (q + 1) ** 2 + transform,
            8 * corners + coefficients * (12 + 4 * channels) + 4 * voxels * channels,
            "8 corners x 2 x 2(q + 1) + Gram 4 (q + 1)^2 a coefficient + q FFTs of (2 D)^3, q = k + 1; "
            "bytes: indices, weights, data, slices, table",
            self.count,
        )
        maximise = Work(
            corners * (3 + 2 * (pairs + 2 * q)) + solved * 2 * q**3 + transform,
            44 * corners + 8 * voxels * (pairs + 2 * q),
            "8 corners x (3 + 2 (q (q + 1) / 2 + 2 q)) a coefficient + 2 q^3 a voxel + q FFTs; bytes: entries written, "
            "sorted, read (44), sums",
            self.count,
        )

        def m_step() -> object:
            _, equations = expectation(self.images, self.start, fixed=True)
            return maximisation(self.start, equations, self.mask, None)

        def iteration() -> object:
            state, equations = expectation(self.images, self.start)
            return maximisation(state, equations, self.mask, None)

        both = Work(expect.operations + maximise.operations, expect.bytes + maximise.bytes, "the sum", self.count)
        name = f"subspace (D = {self.box}, k = {self.dimension})"
        yield f"{name}, E-step", lambda: expectation(self.images, self.start, accumulate=False), expect
        yield f"{name}, M-step", m_step, maximise
        yield f"{name}, iteration", iteration, both

    def whole_stage(self, machine: Machine, iterations: int) -> dict[str, Any]:
        """All of the EM, the last reading of latents included; noise may end it before so many iterations."""
        started, done = machine.clock(), 0

        def count(iteration: int, _: PPCA) -> None:
            nonlocal done
            done = iteration + 1

        fit_ppca(self.images, self.start.mean, self.mask, self.dimension, iterations, self.seed, count)
        seconds = machine.clock() - started
        return {
            "box": self.box,
            "dimension": self.dimension,
            "images": self.count,
            "iterations": done,
            "seconds": round(seconds, 2),
            "images_per_s": round(self.count / seconds, 1),
        }
