"""Numbers that cannot be what their columns say are refused, or named in one warning, in every format."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.imaging.rotations import matrix_from_euler, uniform_rotations
from cryoformer.particles.metadata_check import check_metadata


@pytest.fixture
def particles(dataset):
    return load_particles(dataset.write())


def many(particles, count: int = 60):
    """So many particles at directions of their own."""
    rows = np.arange(count) % len(particles)
    repeated = particles.subset(rows)
    return replace(repeated, rotations=uniform_rotations(count, 3), references=None, half_set=None)


def with_ctf(particles, row: int | None, **values):
    """The same particles with other values in one row, or in all."""
    ctf = {name: value.clone() for name, value in vars(particles.ctf).items()}
    for name, value in values.items():
        ctf[name][slice(None) if row is None else row] = value
    return replace(particles, ctf=type(particles.ctf)(**ctf))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("voltage_kv", 300000.0, "the voltage is 300000 kV"),
        ("voltage_kv", 0.3, "in volts or megavolts?"),
        ("spherical_aberration_mm", 2700.0, "Millimetres are expected"),
        ("amplitude_contrast", 7.0, "in percent?"),
        ("amplitude_contrast", 1.0, "A fraction from 0 to below 1"),
        ("amplitude_contrast", -0.1, "A fraction from 0 to below 1"),
        ("defocus_u_angstrom", 1.5, "in micrometres, or a column shifted?"),
        ("defocus_v_angstrom", 0.0, "in micrometres, or a column shifted?"),
        ("defocus_u_angstrom", 1.5e7, "not in Angstrom"),
        ("defocus_angle_degrees", 15000.0, "no angle; a column shifted"),
        ("phase_shift_degrees", 5000.0, "no phase shift"),
        ("b_factor_angstrom2", -30.0, "a negative one makes the CTF larger than 1"),
    ],
)
def test_optics_that_cannot_be(particles, name, value, said):
    for row, first, count in ((3, 4, 1), (None, 1, 5)):
        with pytest.raises(InputError) as caught:
            check_metadata(with_ctf(particles, row, **{name: value}))
        assert said in str(caught.value)
        assert f"row {first}: " in str(caught.value)
        assert f"({count} of 5 rows)" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"defocus_u_angstrom": -9000.0}, "row 2: the defocus is -9000 A (1 of 5 rows): overfocus"),
        ({"defocus_u_angstrom": 700.0, "defocus_v_angstrom": 690.0}, "in nanometres?"),
        ({"defocus_u_angstrom": 0.0, "defocus_v_angstrom": 0.0}, "was its CTF not estimated?"),
        ({"defocus_u_angstrom": 2e5}, "more than 15 micrometres"),
        ({"defocus_v_angstrom": 5000.0}, "less than half of the other one"),
        ({"spherical_aberration_mm": 0.0027}, "in metres?"),
    ],
)
def test_optics_that_are_not_likely(particles, values, said, caplog):
    check_metadata(with_ctf(particles, 1, **values))
    assert len(caplog.records) == 1
    assert said in caplog.text


def test_defocus_of_the_other_sign_convention(particles):
    with pytest.raises(InputError, match="the other sign convention"):
        check_metadata(with_ctf(particles, None, defocus_u_angstrom=-15000.0, defocus_v_angstrom=-14000.0))


def test_phase_shifts_in_radians(particles, caplog):
    check_metadata(with_ctf(particles, None, phase_shift_degrees=1.57))
    assert "the phase shift is 1.57 degrees (5 of 5 rows): in radians?" in caplog.text


def test_no_ctf_is_nothing_to_complain_of(particles, caplog):
    none = {"defocus_u_angstrom": 0.0, "defocus_v_angstrom": 0.0, "amplitude_contrast": 1.0}
    check_metadata(with_ctf(particles, None, **none))
    assert not caplog.records


@pytest.mark.parametrize("sizes", [1e-10, 500.0])
def test_pixel_sizes(particles, sizes):
    with pytest.raises(InputError, match="the pixel size is"):
        check_metadata(replace(particles, pixel_sizes_angstrom=np.full(5, sizes), shifts_angstrom=np.zeros((5, 2))))


def test_shifts_beyond_the_box(particles, caplog):
    """One of many is a warning, many are an error."""
    some = many(particles, 200)
    some.shifts_angstrom[7] = (0.0, -30.0)
    check_metadata(some)
    assert "row 8: the shift is 30 A (1 of 200 rows): more than half the box" in caplog.text
    with pytest.raises(InputError, match="more than half the box"):
        check_metadata(replace(some, shifts_angstrom=some.shifts_angstrom * 40))


@pytest.mark.parametrize(
    ("angles", "said"),
    [
        ((0.0, 0.0, 0.0), "have one orientation"),
        ((40.0, 70.0, -10.0), "have one orientation"),
        (None, "are seen from one direction"),
    ],
)
def test_poses_that_were_never_refined(particles, angles, said, caplog):
    some = many(particles)
    in_plane = np.stack([np.zeros(60), np.zeros(60), np.linspace(0, 350, 60)], axis=1)
    rotations = matrix_from_euler(in_plane if angles is None else np.tile(angles, (60, 1)))
    check_metadata(replace(some, rotations=rotations))
    assert said in caplog.text
    caplog.clear()
    check_metadata(some)
    assert not caplog.records


def test_angles_in_radians_and_shifted_columns(dataset):
    star = dataset.particles
    dataset.particles = star = star.loc[np.arange(40) % 5].reset_index(drop=True)
    generator = np.random.default_rng(0)
    for name in ("Rot", "Psi"):
        star[f"rlnAngle{name}"] = generator.uniform(-np.pi, np.pi, 40)
    star["rlnAngleTilt"] = np.arccos(generator.uniform(-1, 1, 40))
    with pytest.raises(InputError, match="as if rlnAngleRot, rlnAngleTilt, rlnAnglePsi were in radians"):
        load_particles(dataset.write())
    star["rlnAngleRot"] = 15000.0
    with pytest.raises(InputError, match="row 1: rlnAngleRot is 15000, expected an angle"):
        load_particles(dataset.write())


def test_lopsided_halves(particles, caplog):
    some = replace(many(particles, 300), half_set=np.where(np.arange(300) == 5, 2, 1))
    check_metadata(some, {"half_set": "rlnRandomSubset"})
    assert "rlnRandomSubset puts 299 particles into half 1 and 1 into half 2 (the first in row 6)" in caplog.text
    caplog.clear()
    check_metadata(replace(some, half_set=1 + np.arange(300) % 2))
    assert not caplog.records


def test_one_angle_in_radians(dataset, caplog):
    particles = dataset.particles
    dataset.particles = pd.concat([particles] * 12, ignore_index=True)
    for number, name in enumerate(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")):
        dataset.particles[name] = np.random.default_rng(number).uniform(1, 179, 60)
    load_particles(dataset.write())
    assert "in radians" not in caplog.text
    dataset.particles["rlnAngleTilt"] = np.radians(dataset.particles["rlnAngleTilt"])
    load_particles(dataset.write())
    assert "the largest rlnAngleTilt is 3." in caplog.text
    assert "in radians? Degrees are expected" in caplog.text


def test_what_a_file_says_twice_and_not_alike(dataset, caplog):
    dataset.particles["rlnOriginX"] = dataset.particles["rlnOriginXAngst"] / 1.5
    dataset.particles["rlnImagePixelSize"] = [1.52, 1.5, 1.52, 1.5, 1.5]
    load_particles(dataset.write())
    assert "is used" not in caplog.text
    assert "are used" not in caplog.text
    dataset.particles.loc[2, "rlnOriginX"] = 30.0
    dataset.particles.loc[1, "rlnImagePixelSize"] = 3.0
    load_particles(dataset.write())
    assert "row 3: rlnOriginX is 30 pixels, rlnOriginXAngst is 3 A (1 rows do not agree)" in caplog.text
    assert "row 2: rlnImagePixelSize is 3 in the particle table and 1.5 in data_optics" in caplog.text


def test_a_group_that_is_no_whole_number(dataset):
    dataset.particles["rlnOpticsGroup"] = [3.0, 7.0, 3.5, 7.0, 7.0]
    with pytest.raises(InputError, match=r"row 3: rlnOpticsGroup is 3\.5, expected a whole number"):
        load_particles(dataset.write())


def test_columns_are_named(dataset, caplog):
    dataset.optics["rlnVoltage"] = 300000
    with pytest.raises(InputError, match="row 1: rlnVoltage is 300000 kV"):
        load_particles(dataset.write())


def test_repeated_images_are_named_once(particles, caplog):
    rows = np.array([0, 1, 2, 3, 4, 1, 2])
    twice = particles.subset(rows)
    twice.half_set[6] = 3 - twice.half_set[2]
    twice.rotations[5] = np.eye(3)
    with caplog.at_level(logging.WARNING):
        check_metadata(twice)
    assert len(caplog.records) == 1
    assert "2 of 7 rows repeat an image (row 6 is row 2 again, 1 of them with the same pose)" in caplog.text
    assert "puts 1 of them into the other half" in caplog.text


def test_ctf_of_torch_is_left_alone(particles):
    before = {name: value.clone() for name, value in vars(particles.ctf).items()}
    check_metadata(particles)
    assert all(torch.equal(before[name], value) for name, value in vars(particles.ctf).items())
