"""The package from Python: particles, a run, its latents beside the file's columns, and volumes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cryoformer as cf

SETTINGS = {
    "subspace": {"box": 16, "dimension": 2, "iterations": 5},
    "stages": [{"box": 24, "epochs": 2, "batch": 32}],
    "model.queries": 8,
    "model.channels": 8,
    "model.hash_levels": 4,
    "model.hash_table_log2": 10,
    "model.encoder_layers": 2,
    "latent_states": 16,
    "parts": 0,
    "invert": "no",
}


def test_importing_is_quick_and_light() -> None:
    code = "import sys, time; start = time.process_time(); import cryoformer; print(time.process_time() - start)\n"
    code += "print('torch' in sys.modules, 'numpy' in sys.modules, dir(cryoformer))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, seen = done.stdout.strip().split("\n")
    assert float(seconds) < 0.05
    assert seen.startswith("False False")
    assert all(name in seen for name in ("load_particles", "train", "open_run"))


def test_particles_that_were_loaded_are_trained_on_and_found_again(particle_file: Path, tmp_path: Path) -> None:
    particles = cf.load_particles(particle_file, random=200, seed=3)
    assert len(particles) == 200
    run = cf.train(particles, out=tmp_path / "run", settings=SETTINGS)
    assert run.latents.shape == (200, run.latents.shape[1])
    table = cf.open_run(tmp_path / "run").table()
    assert len(table) == 200
    whole = cf.load_particles(particle_file)
    # The rows that were drawn, in their order, with what the file says of them.
    assert particles.rows is not None
    np.testing.assert_allclose(
        table["rlnDefocusU"].astype(float), whole.ctf.defocus_u_angstrom.numpy()[particles.rows], atol=0.01
    )
    np.testing.assert_allclose(table["latent_0"], run.latents[:, 0])
    np.testing.assert_allclose(table["latent_0_deviation"] ** 2, run.latents_covariance[:, 0, 0], rtol=1e-5)
    np.testing.assert_array_equal(table["outlier_score"], run.outlier_score)
    volumes = run.volumes(run.latents[:2])
    assert volumes.shape == (2, 24, 24, 24)
    # Decoded two at a time and alone: the same but for rounding.
    np.testing.assert_allclose(volumes[1], next(run.particle_volumes([1])), atol=1e-5)


def test_what_cannot_be_trained_on_is_said(tmp_path: Path, particle_file: Path) -> None:
    with pytest.raises(cf.InputError, match=r"none\.star"):
        cf.train(tmp_path / "none.star", out=tmp_path / "run")
    with pytest.raises(cf.InputError, match="querys"):
        cf.train(particle_file, out=tmp_path / "run", settings={"model.querys": 3})
    assert not (tmp_path / "run").exists()
    with pytest.raises(AttributeError, match="reconstruct"):
        _ = cf.reconstruct
