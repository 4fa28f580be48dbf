"""Particle files with other poses: read again they say these, and all else as before."""

from dataclasses import replace

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.load import open_particle_file

from .test_cryodrgn import CryodrgnDataset


def turned(particles):
    """The same particles at other poses."""
    generator = np.random.default_rng(4)
    turns = Rotation.from_rotvec(generator.normal(size=(len(particles), 3))).as_matrix()
    shifts = particles.shifts_angstrom + generator.normal(size=(len(particles), 2))
    return replace(particles, rotations=turns @ particles.rotations, shifts_angstrom=shifts)


def assert_poses(path, wanted, **options) -> None:
    found = load_particles(path, **options)
    np.testing.assert_allclose(found.rotations, wanted.rotations, atol=1e-6)
    np.testing.assert_allclose(found.shifts_angstrom, wanted.shifts_angstrom, atol=1e-5)
    rows = np.arange(len(found))
    for row in rows:
        np.testing.assert_array_equal(found.images(rows[row : row + 1]), wanted.images(rows[row : row + 1]))


@pytest.mark.parametrize("unit", ["angstrom", "pixels"])
def test_a_star_file_keeps_everything_else(dataset, tmp_path, unit):
    if unit == "pixels":
        sizes = dataset.particles["rlnOpticsGroup"].map({7: 1.5, 3: 1.52})
        for axis in "XY":
            origin = dataset.particles.pop(f"rlnOrigin{axis}Angst")
            dataset.particles[f"rlnOrigin{axis}"] = origin / sizes
    wanted = turned(load_particles(dataset.write()))
    out = open_particle_file(wanted.source).write_posed(wanted, tmp_path / "out")
    assert out == tmp_path / "out" / "particles.star"
    assert_poses(out, wanted)
    before, after = starfile.read(dataset.path), starfile.read(out)
    changed = {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"}
    changed |= {name for name in before["particles"] if name.startswith("rlnOrigin")}
    for name in before["particles"]:
        same = before["particles"][name].equals(after["particles"][name])
        assert same == (name not in changed), name
    assert before["optics"].equals(after["optics"])


def test_a_star_file_without_origins_is_written_anew(dataset, tmp_path):
    del dataset.particles["rlnOriginXAngst"], dataset.particles["rlnOriginYAngst"]
    wanted = turned(load_particles(dataset.write()))
    assert_poses(open_particle_file(wanted.source).write_posed(wanted, tmp_path / "out"), wanted)


def cryosparc_file(dataset, folder, **fields) -> None:
    from cryosparc.dataset import Dataset

    star = load_particles(dataset.write())
    count = len(star)
    values = {
        "blob/path": np.array([f">{row.split('@')[1]}" for row in dataset.particles["rlnImageName"]], dtype=object),
        "blob/idx": np.array([int(row.split("@")[0]) - 1 for row in dataset.particles["rlnImageName"]], dtype="<u4"),
        "blob/psize_A": star.pixel_sizes_angstrom.astype(np.float32),
        "blob/shape": np.full((count, 2), 8, dtype="<u4"),
        "ctf/df1_A": np.full(count, 15000, dtype=np.float32),
        "ctf/df2_A": np.full(count, 14000, dtype=np.float32),
        "ctf/df_angle_rad": np.zeros(count, dtype=np.float32),
        "ctf/accel_kv": np.full(count, 300, dtype=np.float32),
        "ctf/cs_mm": np.full(count, 2.7, dtype=np.float32),
        "ctf/amp_contrast": np.full(count, 0.1, dtype=np.float32),
        "location/exp_index": np.arange(count, dtype="<u4"),
    }
    Dataset(list((values | fields).items())).save(folder / "given.cs")


def alignment(name: str, count: int = 5) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(8)
    return {
        f"{name}/pose": generator.normal(size=(count, 3)).astype(np.float32),
        f"{name}/shift": generator.normal(size=(count, 2)).astype(np.float32),
        f"{name}/psize_A": np.full(count, 0.75, dtype=np.float32),
    }


@pytest.mark.parametrize("group", ["alignments3D", "alignments_class_0"])
def test_a_cryosparc_file_keeps_everything_else(dataset, tmp_path, group):
    from cryosparc.dataset import Dataset

    cryosparc_file(dataset, tmp_path, **alignment(group))
    wanted = turned(load_particles(tmp_path / "given.cs"))
    out = open_particle_file(wanted.source).write_posed(wanted, tmp_path / "out")
    assert_poses(out, wanted)
    before, after = Dataset.load(tmp_path / "given.cs"), Dataset.load(out)
    for name in before.fields():
        if name not in ("alignments3D/pose", "alignments3D/shift", "blob/path"):
            np.testing.assert_array_equal(before[name], after[name])
    assert out.with_suffix(".csg").is_file()


def test_pickles_become_pickles(tmp_path):
    (tmp_path / "given").mkdir()
    given = CryodrgnDataset(tmp_path / "given")
    paths = given.write()
    wanted = turned(load_particles(tmp_path / "given" / "all.mrcs", **paths))
    out = open_particle_file(tmp_path / "given" / "all.mrcs", **paths).write_posed(wanted, tmp_path / "out")
    assert out.name == "poses.pkl"
    assert_poses(tmp_path / "out", wanted)


def test_the_file_itself_is_not_replaced(dataset):
    particles = load_particles(dataset.write())
    with pytest.raises(InputError, match="give another --out"):
        open_particle_file(dataset.path).write_posed(particles, dataset.path.parent)
