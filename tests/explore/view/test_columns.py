"""What particles can be coloured by, and from where they are seen."""

from pathlib import Path

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.explore.view.directions import COLUMNS, ROWS, compared, direction_counts
from cryoformer.explore.view.session import Session
from cryoformer.formats.load import load_particles
from cryoformer.run.run_folder import open_run


def test_columns_of_latents_poses_and_the_particle_file(made_run: Path, session: Session) -> None:
    particles = load_particles(made_run.parent / "particles.star")
    columns = session.columns.all
    assert session.columns.problem == ""
    assert "state" not in columns  # nothing was analysed
    defocus = (particles.ctf.defocus_u_angstrom + particles.ctf.defocus_v_angstrom).numpy() / 2e4
    np.testing.assert_allclose(columns["defocus"].values, defocus, rtol=1e-5)
    tilt = np.degrees(np.arccos(particles.rotations[:, 2, 2].clip(-1, 1)))
    np.testing.assert_allclose(columns["tilt"].values, tilt, atol=1e-3)
    np.testing.assert_allclose(columns["uncertainty"].values, np.sqrt(0.02), rtol=1e-5)
    np.testing.assert_allclose(columns["outlier"].values, np.linspace(-1, 6, 100), atol=1e-6)
    assert any(name.startswith("file:") and name.endswith("rlnAngleTilt") for name in columns)
    assert all(len(column.values) == 100 for column in columns.values())
    with pytest.raises(InputError, match="no column"):
        session.column("nothing")


def test_the_density_is_highest_where_particles_are(own_run: Path) -> None:
    run = open_run(own_run)
    crowded = np.full((100, 2), 0.5)
    crowded[:10] = np.linspace([-1, -1], [1, -1], 10)
    run.latents[:] = crowded
    values = Session(run).columns["density"].values
    assert values[10:].min() > values[:10].max()


def test_states_are_those_of_the_analysis_of_this_run(own_run: Path) -> None:
    (own_run / "analysis").mkdir()
    path = own_run / "analysis/latent_space.npz"
    labels = np.arange(100) % 3
    np.savez(path, labels=labels, centres=np.array([1, 2, 3]))
    session = Session(open_run(own_run))
    assert session.summary()["states"] == [1, 2, 3]
    np.testing.assert_array_equal(session.columns["state"].values, labels + 1)
    assert session.columns["state"].range == (1, 3)
    np.savez(path, labels=labels[:50], centres=np.array([1]))
    assert Session(open_run(own_run)).summary()["states"] == []


def test_without_the_particle_file_what_latents_say_remains(own_run: Path) -> None:
    config = own_run / "config.yaml"
    config.write_text(config.read_text().replace("particles.star", "gone.star"))
    columns = Session(open_run(own_run)).columns
    assert set(columns.all) == {"density", "uncertainty", "outlier"}
    assert "gone.star" in columns.problem


def test_directions_all_over_the_sphere_fill_all_cells_alike() -> None:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((200_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    counts = direction_counts(directions)
    assert counts.shape == (ROWS, COLUMNS)
    assert counts.sum() == len(directions)
    assert counts.min() > 0.85 * counts.mean()
    top = np.flatnonzero(directions[:, 2] > 0.99)
    shares = compared(directions, top)
    assert shares["selected"][0].sum() == pytest.approx(1.0)  # from above: the first row
    assert shares["all"].sum() == pytest.approx(1.0)
