"""A whole training step, by the trainer itself, with its peak memory."""

import resource
import sys
from dataclasses import replace

import torch
from lightning_fabric import Fabric

from cryoformer.training.encoder_inputs import KnownLatents
from cryoformer.training.state import TrainingState
from cryoformer.training.train_config import Stage, TrainConfig
from cryoformer.training.trainer import StageTrainer, StepReport
from kernel_bench.image_kernels import image_kernels
from kernel_bench.machine import Machine, Timings, Work
from kernel_bench.network_kernels import network_kernels
from kernel_bench.problem import Problem

# The kernels that a step is made of; splatting brings the transform of the loss.
PARTS = (
    "hash encoding, forward + backward",
    "encoder and query decoder, forward + backward",
    "decoding, forward + backward",
    "splatting with its transform, forward + backward",
)
HELD_OUT = 10 / 9  # a tenth of few images is held out


def step_work(problem: Problem, images_per_state: int) -> Work:
    """The sum of the parts, with fewer states than images to decode."""
    states = replace(problem, images=-(-problem.images // images_per_state))
    kernels = [*network_kernels(states), *image_kernels(problem)]
    parts = [work for name, _, work in kernels if name in PARTS]
    operations, moved = sum(w.operations for w in parts), sum(w.bytes for w in parts)
    return Work(operations, moved, "the sum of encoding, query decoder, decoding and splatting", problem.images)


def time_steps(problem: Problem, machine: Machine, steps: int, images_per_state: int) -> Timings:
    """Steps of one epoch, the first and the last (which ends with the held-out images) left out."""
    images = problem.fourier_images(round(HELD_OUT * problem.images * (steps + 2)))
    stage = Stage(box=problem.box, epochs=1, batch=problem.images)
    config = TrainConfig(seed=problem.seed, device="cpu", images_per_state=images_per_state, checkpoint_seconds=1e9)
    fabric = Fabric(accelerator="cpu", devices=1)
    latents = problem.latents(len(images))
    covariance = torch.eye(latents.shape[1]).expand(len(latents), -1, -1)
    trainer = StageTrainer(problem.model, images, KnownLatents(latents, covariance), stage, config, fabric)
    found, started = Timings(), 0.0

    def report(step: StepReport) -> None:
        nonlocal started
        now = machine.clock()
        if 1 < step.step <= steps + 1:
            found.seconds.append(now - started)
        if step.step <= steps:
            found.gemm.append(machine.gemm())
            found.copy.append(machine.rate("copy"))
        started = machine.clock()

    trainer.run(TrainingState(problem.model), report, lambda: None)
    return found


def peak_gib() -> float:
    """Of this process so far."""
    unit = 1024 if sys.platform == "linux" else 1
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)


def memory_of_inputs(problem: Problem) -> dict[str, float]:
    """GiB of what stays through a stage: encoding matrix with its transpose, network, images."""
    encoding = problem.points.encoding
    parts = [] if isinstance(encoding, torch.Tensor) else [encoding.matrix, encoding.transpose]
    size = sum(x.numel() * x.element_size() for m in parts for x in (m.values(), m.col_indices(), m.crow_indices()))
    return {"encoding_gib": round(size / 2**30, 3)}
