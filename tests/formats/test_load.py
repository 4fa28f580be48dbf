"""What comes out of a RELION file: images, poses, optics, CTF."""

import logging

import numpy as np
import pytest
import starfile
import torch

from cryoformer.formats import load_particles
from cryoformer.imaging.ctf import contrast_transfer
from cryoformer.imaging.rotations import matrix_from_euler


def test_images_are_those_of_the_index_in_the_order_asked_for(dataset):
    particles = load_particles(dataset.write())
    assert (len(particles), particles.box) == (5, 8)
    rows = np.array([4, 0, 3, 3, 1, 2])
    expected = np.stack([dataset.image(row) for row in rows])
    np.testing.assert_array_equal(particles.images(rows), expected)
    assert len(particles.images(np.array([], dtype=np.int64))) == 0


def test_optics_groups_may_have_boxes_of_their_own(dataset):
    dataset.stacks["sub/second.mrcs"] = np.arange(400, dtype=np.float32).reshape(4, 10, 10)
    dataset.optics["rlnImageSize"] = [10, 8]
    particles = load_particles(dataset.write())
    assert particles.boxes.tolist() == [8, 10, 8, 10, 10]
    assert particles.box == 8
    for rows in ([2, 0], [4, 3]):
        np.testing.assert_array_equal(particles.images(np.array(rows)), np.stack([dataset.image(row) for row in rows]))
    assert load_particles(dataset.path, require_images=False).boxes.tolist() == [8, 10, 8, 10, 10]


def test_premultiplied_images_are_marked_per_particle(dataset):
    assert not load_particles(dataset.write()).premultiplied.any()
    dataset.optics["rlnCtfDataAreCtfPremultiplied"] = [0, 1]
    assert load_particles(dataset.write()).premultiplied.tolist() == [True, False, True, False, False]


def test_poses_follow_the_convention(dataset):
    particles = load_particles(dataset.write())
    angles = dataset.particles[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
    np.testing.assert_allclose(particles.rotations, matrix_from_euler(angles), atol=1e-12)
    origins = dataset.particles[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy()
    np.testing.assert_allclose(particles.shifts_angstrom, -origins)


def test_optics_groups_are_joined_per_particle(dataset):
    particles = load_particles(dataset.write())
    assert particles.optics_group.tolist() == [3, 7, 3, 7, 7]
    assert particles.pixel_sizes_angstrom.tolist() == [1.52, 1.5, 1.52, 1.5, 1.5]
    assert particles.pixel_size_angstrom == 1.52
    assert particles.ctf.voltage_kv.tolist() == [300, 200, 300, 200, 200]
    np.testing.assert_allclose(particles.ctf.spherical_aberration_mm, [2.0, 2.7, 2.0, 2.7, 2.7], rtol=1e-6)
    np.testing.assert_allclose(particles.ctf.amplitude_contrast, [0.1, 0.07, 0.1, 0.07, 0.07], rtol=1e-6)


def test_ctf_columns(dataset):
    particles = load_particles(dataset.write())
    for name, column in (
        ("defocus_u_angstrom", "rlnDefocusU"),
        ("defocus_v_angstrom", "rlnDefocusV"),
        ("defocus_angle_degrees", "rlnDefocusAngle"),
        ("phase_shift_degrees", "rlnPhaseShift"),
        ("b_factor_angstrom2", "rlnCtfBfactor"),
    ):
        assert getattr(particles.ctf, name).tolist() == dataset.particles[column].tolist()
        assert getattr(particles.ctf, name).dtype == torch.float32


def test_absent_phase_shift_and_b_factor_are_zero(dataset):
    dataset.particles = dataset.particles.drop(columns=["rlnPhaseShift", "rlnCtfBfactor", "rlnRandomSubset"])
    particles = load_particles(dataset.write())
    assert particles.ctf.phase_shift_degrees.tolist() == [0.0] * 5
    assert particles.ctf.b_factor_angstrom2.tolist() == [0.0] * 5
    assert particles.half_set is None
    assert torch.isfinite(contrast_transfer(particles.ctf, 8, 1.5)).all()


def test_half_sets(dataset, caplog):
    assert load_particles(dataset.write()).half_set.tolist() == [1, 2, 1, 2, 1]
    dataset.particles["rlnRandomSubset"] = 0
    assert load_particles(dataset.write()).half_set is None
    assert "rlnRandomSubset" in caplog.text


def test_the_optics_table_may_stand_last_and_be_out_of_order(dataset):
    dataset.write()
    starfile.write({"particles": dataset.particles, "optics": dataset.optics.iloc[::-1]}, dataset.path)
    assert load_particles(dataset.path).pixel_sizes_angstrom.tolist() == [1.52, 1.5, 1.52, 1.5, 1.5]


def test_a_single_optics_group_as_name_value_pairs(dataset):
    dataset.particles["rlnOpticsGroup"] = 7
    dataset.write()
    pairs = {key: value for key, value in dataset.optics.iloc[0].to_dict().items() if key != "rlnOpticsGroupName"}
    starfile.write({"optics": pairs, "particles": dataset.particles}, dataset.path)
    assert load_particles(dataset.path).ctf.voltage_kv.tolist() == [200.0] * 5


def test_a_single_optics_group_needs_no_group_column(dataset):
    dataset.optics = dataset.optics.iloc[:1]
    dataset.particles = dataset.particles.drop(columns="rlnOpticsGroup")
    particles = load_particles(dataset.write())
    assert particles.pixel_sizes_angstrom.tolist() == [1.5] * 5
    assert particles.optics_group.tolist() == [1] * 5


def test_origins_in_pixels_are_scaled_by_each_particles_pixel_size(dataset):
    dataset.particles = dataset.particles.rename(
        columns={"rlnOriginXAngst": "rlnOriginX", "rlnOriginYAngst": "rlnOriginY"}
    )
    particles = load_particles(dataset.write())
    pixels = dataset.particles[["rlnOriginX", "rlnOriginY"]].to_numpy()
    np.testing.assert_allclose(particles.shifts_angstrom, -pixels * np.array([1.52, 1.5, 1.52, 1.5, 1.5])[:, None])


def test_origins_in_angstrom_win_over_pixels(dataset):
    dataset.particles["rlnOriginX"] = 99.0
    dataset.particles["rlnOriginY"] = 99.0
    np.testing.assert_allclose(load_particles(dataset.write()).shifts_angstrom[0], [-1.0, 0.5])


def test_absent_origins_are_zero(dataset):
    dataset.particles = dataset.particles.drop(columns=["rlnOriginXAngst", "rlnOriginYAngst"])
    np.testing.assert_array_equal(load_particles(dataset.write()).shifts_angstrom, np.zeros((5, 2)))


def test_relion_30_without_optics_table(dataset):
    particles = dataset.particles.drop(columns="rlnOpticsGroup")
    particles = particles.rename(columns={"rlnOriginXAngst": "rlnOriginX", "rlnOriginYAngst": "rlnOriginY"})
    dataset.particles = particles.assign(
        rlnVoltage=300.0,
        rlnSphericalAberration=2.7,
        rlnAmplitudeContrast=0.1,
        rlnMagnification=[40000.0, 40000.0, 40000.0, 40000.0, 20000.0],
        rlnDetectorPixelSize=6.0,
    )
    loaded = load_particles(dataset.write(optics=False))
    np.testing.assert_allclose(loaded.pixel_sizes_angstrom, [1.5, 1.5, 1.5, 1.5, 3.0])
    np.testing.assert_allclose(loaded.shifts_angstrom[[0, 4]], [[-1.5, 0.75], [-15.0, -6.0]])
    assert loaded.ctf.spherical_aberration_mm.tolist() == pytest.approx([2.7] * 5)
    assert loaded.box == 8


def test_metadata_alone_needs_no_stacks(dataset):
    dataset.write()
    (dataset.folder / "first.mrcs").unlink()
    particles = load_particles(dataset.path, require_images=False)
    assert (particles.box, len(particles), particles.stacks) == (8, 5, None)


def test_images_without_ctf_have_a_ctf_of_one(dataset):
    dataset.particles = dataset.particles.drop(columns=["rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"])
    particles = load_particles(dataset.write(), require_ctf=False)
    # 1e-6: float32.
    assert torch.allclose(contrast_transfer(particles.ctf, 8, 1.5), torch.ones(5, 8, 5), atol=1e-6)


def test_subset_keeps_everything_together(dataset):
    particles = load_particles(dataset.write())
    some = particles.subset(np.array([4, 1]))
    assert len(some) == 2
    np.testing.assert_array_equal(some.images(np.array([0, 1])), particles.images(np.array([4, 1])))
    np.testing.assert_array_equal(some.rotations, particles.rotations[[4, 1]])
    np.testing.assert_array_equal(some.shifts_angstrom, particles.shifts_angstrom[[4, 1]])
    np.testing.assert_array_equal(some.pixel_sizes_angstrom, particles.pixel_sizes_angstrom[[4, 1]])
    assert some.ctf.defocus_u_angstrom.tolist() == [19000.0, 16000.0]
    assert some.half_set.tolist() == [1, 2]
    assert some.optics_group.tolist() == [7, 7]


@pytest.mark.parametrize("header", [0.0, 1.0])
def test_an_unset_pixel_size_in_the_header_is_overridden_quietly(dataset, caplog, header):
    dataset.header_pixel_size = header
    with caplog.at_level(logging.INFO, logger="cryoformer"):
        particles = load_particles(dataset.write())
    assert particles.pixel_size_angstrom == 1.52
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "1.52 A from the metadata" in record.message


def test_a_header_that_disagrees_is_overridden_with_a_warning(dataset, caplog):
    dataset.header_pixel_size = 3.1
    assert load_particles(dataset.write()).pixel_size_angstrom == 1.52
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "3.1" in caplog.text


@pytest.mark.slow
def test_a_million_rows_load_in_seconds(dataset):
    """Some 8 s on a slow core; row by row in Python it would be minutes."""
    import time

    repeated = dataset.particles.loc[np.arange(1_000_000) % 5].reset_index(drop=True)
    dataset.particles = repeated
    dataset.write()
    start = time.perf_counter()
    assert len(load_particles(dataset.path)) == 1_000_000
    assert time.perf_counter() - start < 30
