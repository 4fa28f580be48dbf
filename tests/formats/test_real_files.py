"""Files that other programs wrote. Answers are those programs' own."""

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.relion.particles import CTF_COLUMNS, ctf_parameters, pixel_sizes_angstrom
from cryoformer.formats.relion.star import read_star_tables
from cryoformer.formats.relion.table import RelionTable
from cryoformer.imaging.rotations import matrix_from_euler
from cryoformer.particles import check_images
from cryoformer.particles.contrast import contrast_sign, detect_sign
from cryoformer.particles.references import open_images, split_references


def test_simulated_stack_of_independent_code(shared_data):
    particles = load_particles(shared_data / "stacks" / "spike64" / "particles.star")
    truth = np.load(shared_data / "stacks" / "spike64" / "truth.npz")
    assert (len(particles), particles.box, particles.pixel_size_angstrom) == (5000, 64, 3.5)
    # The STAR file has six decimals of a degree and of an Angstrom.
    np.testing.assert_allclose(particles.rotations, truth["rotations"], atol=1e-7)
    np.testing.assert_allclose(particles.shifts_angstrom, -truth["origins_angstrom"], atol=1e-6)
    np.testing.assert_allclose(particles.ctf.defocus_u_angstrom, truth["defocus"][:, 0], rtol=1e-6)
    assert np.bincount(particles.half_set).tolist() == [0, 2500, 2500]
    check_images(particles)
    sign = detect_sign(particles)
    assert sign.sign == 1
    assert sign.z > 20


def test_dark_particles_of_empiar_10076(shared_data):
    """Seven real images, without poses; a plain mean inside against outside a circle cannot tell their contrast."""
    path = shared_data / "metadata" / "empiar_10076_7.star"
    with pytest.raises(InputError, match="no poses"):
        load_particles(path)
    table = RelionTable(path, *read_star_tables(path))
    stacks = open_images(split_references(table.particles["rlnImageName"], path), path, None)
    assert set(CTF_COLUMNS) <= set(table.particles.columns)
    pixel_sizes = pixel_sizes_angstrom(table)
    np.testing.assert_allclose(pixel_sizes, 1.31, atol=1e-4)
    found = contrast_sign(stacks.read(np.arange(7)), ctf_parameters(table, True), pixel_sizes)
    assert found.sign == -1
    assert found.certain


def test_relion_31_particles(shared_data):
    particles = load_particles(shared_data / "metadata" / "relion31.star")
    assert (len(particles), particles.box, particles.pixel_size_angstrom) == (5, 256, 2.806)
    np.testing.assert_allclose(particles.shifts_angstrom[0], [-0.019324, 0.64686])
    angles = np.array([[-102.30296, 82.318041, 124.706463]])
    np.testing.assert_allclose(particles.rotations[:1], matrix_from_euler(angles))
    # The extraction normalised each background to mean 0 and spread 1.
    np.testing.assert_allclose(particles.images(np.arange(5)).std(axis=(1, 2)), 1, atol=0.05)


def test_six_optics_groups(shared_data):
    particles = load_particles(shared_data / "metadata" / "relion31.6opticsgroups.star", require_images=False)
    assert (len(particles), particles.box) == (139, 196)
    groups = particles.optics_group
    assert set(groups.tolist()) <= {1, 2, 3, 4, 5, 6}
    np.testing.assert_array_equal(particles.pixel_sizes_angstrom, np.where(np.isin(groups, (2, 5)), 1.24, 1.25))
    expected = np.where(groups == 4, np.float32(2.6), np.float32(2.7))
    np.testing.assert_array_equal(particles.ctf.spherical_aberration_mm.numpy(), expected)


def test_relion_5(shared_data):
    particles = load_particles(shared_data / "metadata" / "relion5.star", require_images=False)
    assert (len(particles), particles.box, particles.pixel_size_angstrom) == (17, 448, 0.89)
    assert particles.ctf.voltage_kv.tolist() == [100.0] * 17


def test_relion_30_poses_and_ctf(shared_data, tmp_path):
    """Rotations, shifts and CTF as cryoDRGN parsed the same file (rows 1 and 4)."""
    original = shared_data / "metadata" / "FinalRefinement-OriginalParticles-PfCRT.star"
    with pytest.raises(InputError, match="rlnAmplitudeContrast missing"):
        load_particles(original, require_images=False)
    text = original.read_text().splitlines()
    place = next(number for number, line in enumerate(text) if line.startswith("_rlnVoltage"))
    rows = [f"{line} 0.1" if "@" in line else line for line in text[place + 1 :]]
    path = tmp_path / "particles.star"
    path.write_text("\n".join([*text[: place + 1], "_rlnAmplitudeContrast #23", *rows]) + "\n")

    particles = load_particles(path, require_images=False)
    expected = [
        [
            [-0.28309893, 0.94840288, 0.14278294],
            [-0.02083069, -0.15491828, 0.98770765],
            [0.95886447, 0.27664471, 0.06361309],
        ],
        [
            [0.52995185, 0.16081019, -0.83264105],
            [0.83890889, 0.04418753, 0.5424752],
            [0.12402789, -0.98599571, -0.11148784],
        ],
    ]
    np.testing.assert_allclose(particles.rotations[[0, 3]], expected, atol=1e-7)
    # Stored there as fractions of the 300 px box, in RELION's sign, to eight decimals.
    fractions = np.array([[-0.00046877, -0.00015627], [0.00046875, 0.00005208]])
    np.testing.assert_allclose(particles.shifts_angstrom[[0, 3]], -fractions * 300 * 1.035, atol=1e-5)
    assert particles.ctf.defocus_v_angstrom.tolist() == pytest.approx([17521.4, 17896.4, 16345.9, 16848.6, 15297.2])
    assert particles.pixel_size_angstrom == pytest.approx(1.035)


def test_relion_projections(shared_data):
    centred = load_particles(shared_data / "oracle" / "rln_proj_65_centered.star", require_ctf=False)
    shifted = load_particles(shared_data / "oracle" / "rln_proj_65_shifted.star", require_ctf=False)
    assert (len(centred), centred.box, centred.pixel_size_angstrom) == (4, 65, 1.0)
    np.testing.assert_allclose(centred.rotations, shifted.rotations)
    assert not centred.shifts_angstrom.any()
    # This file has its origins in pixels, although it has an optics table.
    np.testing.assert_allclose(shifted.shifts_angstrom, [[-6, -10], [-10, 5], [8, -11], [13, 3]])
    with pytest.raises(InputError, match="no pixel size"):
        load_particles(shared_data / "oracle" / "rln_proj_65.star", require_ctf=False)
