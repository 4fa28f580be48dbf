"""Who races: this project at each box of its training, and cryoDRGN with its default and its small network.

Each is a command that says while it trains how many images it has seen. This project is timed from a run whose
consensus and subspace are done; it goes on with ``--resume`` in one stage that does not end.
"""

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from cryoformer.baselines.cryodrgn import Settings, train_arguments, write_inputs
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.preparation import choose_sign
from cryoformer.particles.particles import Particles
from cryoformer.run.run_folder import RunPaths
from cryoformer.training.train_config import load_config, resolve_stages
from racing.watch import watch

TRACED = Path(__file__).with_name("traced_train.py")
CRYODRGN = "cryoDRGN"
WIDTHS = {CRYODRGN: 1024, "cryoDRGN, 256 wide": 256}
# cryoDRGN tells how far it is after this many images, a batch; by default after 1,000, which can take minutes.
LOG_IMAGES = 16
ENDLESS = 1_000_000


@dataclass(frozen=True)
class Contestant:
    """A command that trains; ``stage`` is the one that is timed, ``command`` makes a fresh start in a folder."""

    name: str
    stage: str
    parse: Callable[[str], tuple[str, int, int] | None]
    command: Callable[[Path], list[str]]


@dataclass(frozen=True)
class Stack:
    """What all are run on."""

    particles: Path
    seed: int
    preset: str

    def load(self) -> Particles:
        """The particles, images not read."""
        return ParticleInput(self.particles).load(self.seed)


def our_steps(line: str) -> tuple[str, int, int] | None:
    """Box, epoch and images, from a line of :mod:`racing.traced_train`."""
    found = re.match(r"step box=(\d+) epoch=(\d+) images=(\d+)", line)
    return (found[1], int(found[2]), int(found[3])) if found else None


def peer_steps(line: str) -> tuple[str, int, int] | None:
    """Epoch and images, from cryoDRGN's log: "[Train Epoch: 2/20] [1000/5000 particles]"."""
    found = re.search(r"Epoch: (\d+)/\d+\] \[(\d+)/\d+", line)
    return ("training", int(found[1]), int(found[2])) if found else None


def train_command(stack: Stack, out: Path, preset: str, minutes: float | None = None) -> list[str]:
    """This project from start to end."""
    command = [sys.executable, str(TRACED), "train", str(stack.particles), "--out", str(out), "--preset", preset]
    command += ["--seed", str(stack.seed)]
    return command if minutes is None else [*command, "--max-minutes", f"{minutes:g}"]


def our_contestants(stack: Stack, work: Path, threads: int) -> list[Contestant]:
    """This project at each of its boxes, the images' own last."""
    prepared = work / "prepared"
    if not RunPaths(prepared).checkpoint("subspace").exists():
        shutil.rmtree(prepared, ignore_errors=True)
        command = train_command(stack, prepared, stack.preset)
        watch(command, our_steps, work / "prepared.log", threads, until=lambda samples: True)
    stages = resolve_stages(load_config(stack.preset), stack.load().box)

    def continued(stage: int, out: Path) -> list[str]:
        shutil.copytree(prepared, out)
        paths = RunPaths(out)
        paths.checkpoint("training").unlink(missing_ok=True)
        facts = paths.read_config()
        alone = stages[stage].model_copy(update={"epochs": float(ENDLESS)})
        facts["settings"] |= {"stages": [alone.model_dump(mode="json")], "full_box": False}
        paths.config.write_text(yaml.safe_dump(facts, sort_keys=False))
        return [sys.executable, str(TRACED), "train", str(stack.particles), "--out", str(out), "--resume"]

    return [
        Contestant(f"this project, {stage.box} pixels", str(stage.box), our_steps, partial(continued, n))
        for n, stage in enumerate(stages)
    ]


def peer_command(
    stack: Stack, executable: str, width: int, out: Path, epochs: int, seed: int, log_images: int | None = None
) -> list[str]:
    """cryoDRGN on the same particles, poses, CTF and contrast, which are written into the folder first."""
    particles = stack.load()
    images = write_inputs(particles, out)
    more = () if log_images is None else ("--log-interval", str(log_images))
    command = [executable, *train_arguments(images, out, Settings(width=width, epochs=epochs, arguments=more), seed)]
    return [*command, "--uninvert-data"] if choose_sign(particles, "auto") < 0 else command


def peer_contestants(stack: Stack, executable: str) -> list[Contestant]:
    """cryoDRGN, default and small."""

    def started(width: int, out: Path) -> list[str]:
        return peer_command(stack, executable, width, out, ENDLESS, stack.seed, LOG_IMAGES)

    return [Contestant(name, "training", peer_steps, partial(started, width)) for name, width in WIDTHS.items()]
