"""cryoDRGN (Zhong et al., Nature Methods 2021), run as a program of the user's own: on the same particles and poses.

Nothing of it is imported: its command is called, its inputs are written by this package's particle writers, its
latents read without unpickling, and its volumes are the MRC files that it writes. Latent of 8, three layers 1024 wide,
as in the CryoFormer paper's comparison (``--set width=256`` for the small network). Made for version 4.3.1.

cryoDRGN's CTF has the opposite sign and it negates the images by default: for white particles the two cancel. Dark
particles are passed with ``--uninvert-data``. Either way its volumes come out positive.
"""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cryoformer.baselines.folder import BaselineFolder
from cryoformer.baselines.interface import Decode, FitData, Fitted
from cryoformer.baselines.interface import Settings as BaseSettings
from cryoformer.errors import InputError
from cryoformer.files import read_mrc_volume
from cryoformer.formats.cryodrgn.particles import write_cryodrgn
from cryoformer.formats.cryodrgn.pickled_arrays import load_pickled_arrays
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.images.preparation import choose_sign
from cryoformer.particles import Particles

RUN, LOG = "cryodrgn", "cryodrgn.log"
POLL_SECONDS = 0.5
STOP_SECONDS = 20.0


class Settings(BaseSettings):
    """What is passed to ``cryodrgn train_vae``."""

    executable: str | None = Field(default=None, description="Path of the command; found on the PATH if not given")
    dimension: int = Field(default=8, ge=1, description="--zdim")
    layers: int = Field(default=3, ge=1, description="--enc-layers and --dec-layers")
    width: int = Field(default=1024, ge=1, description="--enc-dim and --dec-dim")
    epochs: int = Field(default=20, ge=1, description="--num-epochs")
    arguments: tuple[str, ...] = Field(default=(), description="Any other arguments of train_vae")


def fit(data: FitData, settings: Settings) -> Fitted:
    """Write cryoDRGN's inputs, run it, and read the latents of its last whole epoch.

    Raises:
        InputError: no such command, particles that cryoDRGN cannot work on, or a run that failed.
    """
    command = find_command(settings.executable)
    version = _version(command)
    box = _one_box(data.particles)
    images = write_inputs(data.particles, data.folder / RUN)
    arguments = train_arguments(images, data.folder / RUN, settings, data.reading.seed)
    if choose_sign(data.particles, data.reading.invert) < 0:
        arguments.append("--uninvert-data")
    data.log.stage(f"{version}, {settings.epochs} epochs")
    _run(data, [command, *arguments], settings.epochs)
    epoch, latents = last_epoch(data.folder / RUN, len(data.particles), data.folder / LOG)
    return Fitted(
        latents=latents,
        box=box,
        pixel_size_angstrom=data.particles.pixel_size_angstrom,
        facts={"version": version, "epochs": epoch, "command": " ".join(["cryodrgn", *arguments])},
    )


def decoder(opened: BaselineFolder) -> Decode:
    """``cryodrgn eval_vol`` at the latents asked for, all in one call."""
    command = find_command(opened.facts["settings"]["executable"])
    folder, epoch = opened.path / RUN, int(opened.facts["found"]["epochs"])

    def decode(latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        with tempfile.TemporaryDirectory(prefix="volumes-", dir=opened.path) as place:
            points = Path(place) / "latents.txt"
            np.savetxt(points, latents, fmt="%.9g")
            arguments = [command, "eval_vol", str(folder / f"weights.{epoch}.pkl"), "-c", str(folder / "config.yaml")]
            arguments += ["--zfile", str(points), "-o", place, "--Apix", f"{opened.pixel_size_angstrom:.6g}"]
            done = subprocess.run(arguments, capture_output=True, text=True)
            # Written as vol_001.mrc or vol_000.mrc on, with more digits from the thousandth.
            files = sorted(Path(place).glob("vol_*.mrc"), key=lambda path: int(path.stem.removeprefix("vol_")))
            if done.returncode != 0 or len(files) != len(latents):
                raise InputError(f"cryodrgn eval_vol failed at {opened.path}: {_last_line(done.stderr)}")
            for file in files:
                yield read_mrc_volume(file)[0]

    return decode


def find_command(executable: str | None) -> str:
    """Path of the ``cryodrgn`` command.

    Raises:
        InputError: there is none.
    """
    found = shutil.which(executable or "cryodrgn")
    if found is None:
        raise InputError(
            f"{executable or 'cryodrgn'}: no such command; install cryoDRGN in an environment of its own and give "
            "--executable PATH/bin/cryodrgn"
        )
    return str(Path(found).absolute())


def write_inputs(particles: Particles, folder: Path) -> Path:
    """``poses.pkl``, ``ctf.pkl`` and ``images.star``, which is returned; the images stay where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    write_cryodrgn(folder / "poses.pkl", folder / "ctf.pkl", particles)
    stacks, star = particles.require_stacks(), folder / "images.star"
    paths = [header.path.resolve() for header in stacks.headers]
    places = zip(stacks.index_of_row.tolist(), stacks.stack_of_row.tolist(), strict=True)
    write_particles_star(
        star,
        [f"{index + 1:06d}@{paths[number]}" for index, number in places],
        particles.rotations,
        particles.shifts_angstrom,
        particles.ctf,
        particles.pixel_sizes_angstrom,
        particles.boxes,
    )
    return star


def train_arguments(images: Path, out: Path, settings: Settings, seed: int) -> list[str]:
    """Arguments of ``cryodrgn train_vae``."""
    named = {
        "--poses": out / "poses.pkl",
        "--ctf": out / "ctf.pkl",
        "--zdim": settings.dimension,
        "--num-epochs": settings.epochs,
        "--enc-layers": settings.layers,
        "--dec-layers": settings.layers,
        "--enc-dim": settings.width,
        "--dec-dim": settings.width,
        "--seed": seed,
        "--outdir": out,
    }
    pairs = [text for name, value in named.items() for text in (name, str(value))]
    return ["train_vae", str(images), *pairs, "--no-analysis", *settings.arguments]


def last_epoch(folder: Path, particles: int, log: Path) -> tuple[int, Float[np.ndarray, "n k"]]:
    """Number and latents of the last epoch that was written whole.

    Raises:
        InputError: there is none, or its latents are not those of these particles.
    """
    for epoch in sorted(_epochs(folder), reverse=True):
        if not (folder / f"weights.{epoch}.pkl").exists():
            continue
        try:
            latents = load_pickled_arrays(folder / f"z.{epoch}.pkl")[0]
        except InputError:
            continue  # cut off while it was written
        if latents.ndim != 2 or len(latents) != particles:
            raise InputError(f"{folder}: latents of shape {latents.shape}, expected those of {particles} particles")
        return epoch, np.array(latents, dtype=np.float32)
    said = _last_line(log.read_text(errors="replace")) if log.exists() else "nothing"
    raise InputError(f"{folder}: cryoDRGN finished no epoch (it last said: {said}); see {log}, or give it more time")


def epochs_done(log: Path) -> float:
    """How far the training is, by the last line of its log that says "Epoch: 2/20] [1000/5000"."""
    lines = re.findall(r"Epoch: (\d+)/\d+\] \[(\d+)/(\d+)", log.read_text(errors="replace"))
    if not lines:
        return 0.0
    epoch, images, of = (int(number) for number in lines[-1])
    return epoch - 1 + images / of


def _run(data: FitData, command: list[str], epochs: int) -> None:
    with (data.folder / LOG).open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                done = epochs_done(data.folder / LOG)
                data.log.advance(done / epochs, f"epoch {done:.2f} of {epochs}")
                if data.time_is_up():
                    data.log.say(f"time is up after {done:.1f} epochs")
                    return
        finally:
            _stop(process)
    if process.returncode != 0:
        said = _last_line((data.folder / LOG).read_text(errors="replace"))
        raise InputError(f"cryodrgn train_vae failed ({said}); see {data.folder / LOG}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _epochs(folder: Path) -> list[int]:
    names = [re.fullmatch(r"z\.(\d+)\.pkl", path.name) for path in folder.glob("z.*.pkl")]
    return [int(name[1]) for name in names if name]


def _version(command: str) -> str:
    said = subprocess.run([command, "--version"], capture_output=True, text=True)
    return " ".join((said.stdout or said.stderr).split()) or "cryodrgn, version unknown"


def _one_box(particles: Particles) -> int:
    sizes = particles.pixel_sizes_angstrom
    if len(np.unique(particles.boxes)) > 1 or np.ptp(sizes) > 1e-5 * sizes[0] or particles.box % 2:
        raise InputError(
            f"{particles.source}: cryoDRGN needs images of one pixel size and one even box; bring them there with "
            "'cryoformer downsample'"
        )
    return particles.box


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
