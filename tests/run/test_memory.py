"""A stack that does not fit into the memory of the process is trained on all the same."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

COUNT, BOX = 12_000, 96
# Of private memory, of which Python and torch reserve 1 GiB that they do not use. Volumes of 96 pixels and what is in
# work take 1.2 GiB; the images would take 1.1 GiB more.
LIMIT_BYTES = 2700 * 2**20


@pytest.fixture(scope="module")
def large_stack(tmp_path_factory: pytest.TempPathFactory, particle_file: Path) -> Path:
    """The small stack's particles 40 times over, in noise, in a larger box."""
    folder = tmp_path_factory.mktemp("large")
    tables = starfile.read(particle_file)
    with mrcfile.open(particle_file.parent / "particles.mrcs") as file:
        small = np.array(file.data)
    rng = np.random.default_rng(0)
    with mrcfile.new_mmap(folder / "large.mrcs", shape=(COUNT, BOX, BOX), mrc_mode=12) as file:
        for start in range(0, COUNT, len(small)):
            images = rng.standard_normal((len(small), BOX, BOX), dtype=np.float32)
            images[:, 36:60, 36:60] += small
            file.data[start : start + len(small)] = images
    rows = tables["particles"].loc[np.arange(COUNT) % len(small)]
    rows["rlnImageName"] = [f"{i + 1}@large.mrcs" for i in range(COUNT)]
    tables["optics"]["rlnImageSize"] = BOX
    starfile.write({"optics": tables["optics"], "particles": rows}, folder / "large.star")
    return folder / "large.star"


def train_limited(star: Path, out: Path, memory_gib: float) -> subprocess.CompletedProcess[str]:
    settings = ["subspace.iterations=2", "subspace.dimension=2", "subspace.images=1000", "latent_states=8",
                "stages=[{box: 32, epochs: 0.05}, {box: 96, epochs: 0.01}]", "model.queries=8", "model.channels=8",
                f"memory_gib={memory_gib}"]  # fmt: skip
    command = [sys.executable, "-m", "cryoformer", "train", str(star), "--out", str(out), "--invert", "no"]
    return subprocess.run(
        [*command, *(word for setting in settings for word in ("--set", setting))],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES)),
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stack_larger_than_the_limit_is_streamed(large_stack: Path, tmp_path: Path) -> None:
    streamed = train_limited(large_stack, tmp_path / "streamed", 0.2)
    assert streamed.returncode == 0, streamed.stderr
    with np.load(tmp_path / "streamed" / "latents.npz") as latents:
        assert latents["mean"].shape[0] == COUNT
    # The limit is a limit: the same run with its images in memory does not fit.
    assert train_limited(large_stack, tmp_path / "held", 8.0).returncode != 0
