"""Writing the STAR file of a simulated stack, and reading it back."""

import numpy as np
import pytest
import starfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryoformer.formats import load_particles
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.imaging.ctf import CTFParameters
from cryoformer.imaging.rotations import uniform_rotations


def ctf_of(count, seed, **changes):
    generator = np.random.default_rng(seed)
    u = generator.uniform(5000, 30000, count)
    columns = {
        "defocus_u_angstrom": u,
        "defocus_v_angstrom": u - generator.uniform(-500, 500, count),
        "defocus_angle_degrees": generator.uniform(-90, 90, count),
        "voltage_kv": np.full(count, 300.0),
        "spherical_aberration_mm": np.full(count, 2.7),
        "amplitude_contrast": np.full(count, 0.1),
        "phase_shift_degrees": np.zeros(count),
        "b_factor_angstrom2": np.zeros(count),
    } | changes
    return CTFParameters(**{name: torch.tensor(column, dtype=torch.float32) for name, column in columns.items()})


def angle_between_degrees(first, second):
    """Angle of the rotation between two sets of rotations; by the chord, which is exact where the trace is not."""
    chord = np.linalg.norm(first - second, axis=(1, 2)) / (2 * np.sqrt(2))
    return np.degrees(2 * np.arcsin(np.minimum(chord, 1)))


@given(seed=st.integers(0, 2**31), count=st.integers(1, 40))
def test_round_trip(tmp_path_factory, seed, count):
    path = tmp_path_factory.mktemp("star") / "particles.star"
    generator = np.random.default_rng(seed)
    rotations = uniform_rotations(count, seed)
    shifts = generator.normal(scale=5, size=(count, 2))
    ctf = ctf_of(count, seed, phase_shift_degrees=generator.uniform(0, 180, count))
    half_set = generator.integers(1, 3, count)
    names = [f"{number + 1:06d}@particles.mrcs" for number in range(count)]
    write_particles_star(path, names, rotations, shifts, ctf, 1.25, 64, half_set)

    read = load_particles(path, require_images=False)
    assert (len(read), read.box, read.pixel_size_angstrom) == (count, 64, 1.25)
    # The file has six decimals: 1e-6 degrees an angle, 1e-6 A, and float32 of some 1e4 A of defocus.
    assert angle_between_degrees(read.rotations, rotations).max() < 1e-4
    np.testing.assert_allclose(read.shifts_angstrom, shifts, atol=1e-6)
    for name in ctf.__dataclass_fields__:
        np.testing.assert_allclose(getattr(read.ctf, name), getattr(ctf, name), rtol=1e-6, atol=1e-5)
    assert read.half_set.tolist() == half_set.tolist()


@pytest.mark.filterwarnings("ignore:Gimbal lock")
def test_round_trip_at_the_poles(tmp_path):
    """At tilt 0 and 180 rot and psi are not unique, but the rotation is."""
    turn = np.diag([-1.0, 1.0, -1.0])
    rotations = np.stack([np.eye(3), turn])
    write_particles_star(
        tmp_path / "a.star", ["1@a.mrcs", "2@a.mrcs"], rotations, np.zeros((2, 2)), ctf_of(2, 0), 1.0, 32
    )
    read = load_particles(tmp_path / "a.star", require_images=False)
    assert angle_between_degrees(read.rotations, rotations).max() < 1e-4
    assert read.half_set is None


def test_different_optics_become_groups(tmp_path):
    voltages = np.array([300.0, 200.0, 300.0])
    ctf = ctf_of(3, 0, voltage_kv=voltages)
    names = ["1@a.mrcs", "2@a.mrcs", "3@a.mrcs"]
    write_particles_star(tmp_path / "a.star", names, uniform_rotations(3, 0), np.zeros((3, 2)), ctf, 1.0, 32)
    assert len(starfile.read(tmp_path / "a.star")["optics"]) == 2
    read = load_particles(tmp_path / "a.star", require_images=False)
    assert read.ctf.voltage_kv.tolist() == voltages.tolist()


def test_the_same_particles_give_the_same_bytes(tmp_path):
    for name in ("a.star", "b.star"):
        write_particles_star(
            tmp_path / name, ["1@a.mrcs"], uniform_rotations(1, 0), np.zeros((1, 2)), ctf_of(1, 0), 1.0, 32
        )
    text = (tmp_path / "a.star").read_text()
    assert text == (tmp_path / "b.star").read_text()
    assert ":" not in text.splitlines()[0]


def test_origin_is_minus_the_shift(tmp_path):
    write_particles_star(
        tmp_path / "a.star", ["1@a.mrcs"], np.eye(3)[None] @ uniform_rotations(1, 0), np.array([[3.0, -4.0]]),
        ctf_of(1, 0), 1.0, 32,
    )  # fmt: skip
    row = starfile.read(tmp_path / "a.star")["particles"].iloc[0]
    assert (row["rlnOriginXAngst"], row["rlnOriginYAngst"]) == (-3.0, 4.0)
