"""cryoSPARC files: every kind of alignment, fields from passthrough files, what is wrong named, nothing run."""

import pickle
import sys

import mrcfile
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.cryosparc.dataset import new_dataset, read_dataset, write_csg, write_dataset

COUNT = 4
VECTORS = np.array([[0.1, 0.2, 0.3], [2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-1.0, 0.3, 1.5]], dtype=np.float32)
ORIGINS = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0], [-1.5, 1.0]], dtype=np.float32)


def number(value, dtype=np.float32):
    return np.full(COUNT, value, dtype=dtype)


class CryosparcDataset:
    """Four particles in two stacks; a test changes ``fields`` and writes them."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.images = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
        for name in ("a.mrc", "b.mrc"):
            with mrcfile.new(folder / name, overwrite=True) as mrc:
                mrc.set_data(self.images if name == "a.mrc" else -self.images)
        self.fields = {
            "uid": np.array([40, 10, 30, 20], dtype=np.uint64),
            "blob/path": np.array([">a.mrc", ">b.mrc", ">a.mrc", "a.mrc"], dtype=object),
            "blob/idx": np.array([2, 0, 1, 0], dtype=np.uint32),
            "blob/shape": np.full((COUNT, 2), 8, dtype=np.uint32),
            "blob/psize_A": number(1.5),
            "blob/sign": number(-1),
            "ctf/exp_group_id": np.array([5, 5, 7, 5], dtype=np.uint32),
            "ctf/accel_kv": number(300),
            "ctf/cs_mm": number(2.7),
            "ctf/amp_contrast": number(0.1),
            "ctf/df1_A": np.array([15000, 16000, 17000, 18000], dtype=np.float32),
            "ctf/df2_A": np.array([14000, 16000, 16500, 17000], dtype=np.float32),
            "ctf/df_angle_rad": np.array([0, 0.5, -1, 1.5], dtype=np.float32),
            "ctf/phase_shift_rad": number(np.pi / 2),
            "alignments3D/split": np.array([0, 1, 1, 0], dtype=np.uint32),
            "alignments3D/shift": ORIGINS,
            "alignments3D/pose": VECTORS,
            # The refinement worked on images of twice the pixel size.
            "alignments3D/psize_A": number(3),
        }

    @property
    def path(self):
        return self.folder / "P3_J24_particles.cs"

    def move(self, group: str, **fields) -> None:
        """Put other alignments in the place of those of a refinement."""
        self.fields = {name: values for name, values in self.fields.items() if not name.startswith("alignments3D/")}
        self.fields |= {f"{group}/{name}": values for name, values in fields.items()}

    def write(self, path=None):
        path = path or self.path
        write_dataset(new_dataset(path, self.fields), path)
        return path

    def split(self, *groups: str):
        """Write some groups of fields, their rows in another order, as the job's passthrough file."""
        other = {name: values for name, values in self.fields.items() if name.split("/")[0] in groups}
        own = {name: values for name, values in self.fields.items() if name not in other}
        path, order = self.folder / "P3_J24_passthrough_particles.cs", np.array([3, 1, 0, 2])
        columns = {name: values[order] for name, values in ({"uid": self.fields["uid"]} | other).items()}
        write_dataset(new_dataset(path, columns), path)
        self.fields = own
        return self.write()


@pytest.fixture
def dataset(tmp_path):
    return CryosparcDataset(tmp_path)


def expected_rotations(vectors):
    return np.swapaxes(Rotation.from_rotvec(vectors).as_matrix(), 1, 2)


def error(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        load_particles(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_everything_is_read(dataset):
    particles = load_particles(dataset.write())
    np.testing.assert_allclose(particles.rotations, expected_rotations(VECTORS), atol=1e-7)
    np.testing.assert_allclose(particles.shifts_angstrom, -3 * ORIGINS)
    np.testing.assert_array_equal(particles.pixel_sizes_angstrom, 1.5)
    assert particles.half_set.tolist() == [1, 2, 2, 1]
    assert particles.optics_group.tolist() == [5, 5, 7, 5]
    assert particles.declared_sign == -1
    np.testing.assert_allclose(particles.ctf.defocus_angle_degrees, np.degrees([0, 0.5, -1, 1.5]), rtol=1e-6)
    np.testing.assert_allclose(particles.ctf.phase_shift_degrees, 90)
    images = particles.images(np.arange(COUNT))
    np.testing.assert_array_equal(images, [dataset.images[2], -dataset.images[0], dataset.images[1], dataset.images[0]])
    assert particles.references.paths == ("a.mrc", "b.mrc")


@pytest.mark.parametrize("groups", [("ctf",), ("blob", "ctf"), ("alignments3D",), ("blob", "ctf", "alignments3D")])
def test_passthrough_fields_are_joined_by_uid(dataset, groups):
    whole = load_particles(dataset.write())
    joined = load_particles(dataset.split(*groups))
    np.testing.assert_array_equal(joined.rotations, whole.rotations)
    np.testing.assert_array_equal(joined.ctf.defocus_u_angstrom, whole.ctf.defocus_u_angstrom)
    np.testing.assert_array_equal(joined.images(np.arange(COUNT)), whole.images(np.arange(COUNT)))


def test_passthrough_of_another_job_or_without_the_particles_is_not_joined(dataset):
    path = dataset.split("ctf")
    passthrough = dataset.folder / "P3_J24_passthrough_particles.cs"
    write_dataset(read_dataset(passthrough).take(np.array([0, 1])), passthrough)
    assert "no field ctf/df1_A" in error(path)
    passthrough.rename(dataset.folder / "P3_J2_passthrough_particles.cs")
    message = error(path)
    assert "no field ctf/df1_A; in cryoSPARC, run a CTF estimation and export the particles with the ctf" in message


def test_heterogeneous_refinement_takes_the_most_probable_class(dataset):
    posterior = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [1.0, 0.0]], dtype=np.float32)
    pose = np.stack([VECTORS, -VECTORS], axis=1)
    shift = np.stack([ORIGINS, 2 * ORIGINS], axis=1)
    dataset.move("alignments3D_multi", pose=pose, shift=shift, class_posterior=posterior, psize_A=number(3))
    particles = load_particles(dataset.write())
    best = np.array([1, -1, -1, 1])[:, None]
    np.testing.assert_allclose(particles.rotations, expected_rotations(best * VECTORS), atol=1e-7)
    np.testing.assert_allclose(particles.shifts_angstrom, -3 * ORIGINS * np.array([1, 2, 2, 1])[:, None])
    assert particles.half_set is None


@pytest.mark.parametrize("group", ["alignments_class", "alignments_class3D"])
def test_classes_in_groups_of_fields(dataset, group):
    """Ab-initio reconstruction and 3D classification, with one class and with eleven."""
    dataset.move(f"{group}_0", pose=VECTORS, shift=ORIGINS, psize_A=number(2), class_posterior=number(0.1))
    one = load_particles(dataset.write())
    np.testing.assert_allclose(one.shifts_angstrom, -2 * ORIGINS)
    np.testing.assert_allclose(one.rotations, expected_rotations(VECTORS), atol=1e-7)
    for name in range(1, 11):
        posterior = np.where(np.arange(COUNT) == 2, 0.9 if name == 10 else 0.0, 0.01).astype(np.float32)
        columns = {"pose": -VECTORS, "shift": name * ORIGINS, "psize_A": number(2), "class_posterior": posterior}
        dataset.fields |= {f"{group}_{name}/{field}": values for field, values in columns.items()}
    several = load_particles(dataset.write())
    np.testing.assert_allclose(several.shifts_angstrom, -2 * ORIGINS * np.array([1, 1, 10, 1])[:, None])
    np.testing.assert_allclose(several.rotations[3], one.rotations[3])


def test_a_refinement_comes_before_classes(dataset):
    dataset.fields |= {"alignments_class_0/pose": -VECTORS, "alignments_class_0/shift": ORIGINS}
    particles = load_particles(dataset.write())
    np.testing.assert_allclose(particles.rotations, expected_rotations(VECTORS), atol=1e-7)


def test_particles_that_were_never_split_have_no_half_sets(dataset):
    dataset.fields["alignments3D/split"] = number(0, np.uint32)
    assert load_particles(dataset.write()).half_set is None


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("ctf/df1_A", number(np.nan), "row 1: ctf/df1_A is nan, expected finite numbers (4 such rows)"),
        ("alignments3D/pose", VECTORS[:, :2], "alignments3D/pose has entries of shape (2,)"),
        ("alignments3D/psize_A", number(0), "row 1: alignments3D/psize_A is 0, expected a value above 0"),
        ("blob/psize_A", number(-1), "row 1: blob/psize_A is -1, expected a value above 0"),
        ("ctf/amp_contrast", number(7), "row 1: ctf/amp_contrast is 7, expected a fraction from 0 to 1"),
        ("blob/sign", np.array([1, -1, 1, 1], dtype=np.float32), "some particles are white and others dark"),
        ("blob/shape", np.full((COUNT, 2), 16, dtype=np.uint32), "row 1: blob/shape says 16 pixels"),
        ("blob/idx", np.array([0, 0, 9, 0], dtype=np.uint32), "row 3 asks for image 10 of"),
        ("blob/path", np.array(["a.mrc", "", "a.mrc", ">"], dtype=object), "row 2: blob/path is empty"),
        ("blob/path", np.array(["x/c.mrc"] * COUNT, dtype=object), "the image stack 'x/c.mrc' was not found (tried"),
        ("uid", np.array([1, 2, 1, 3], dtype=np.uint64), "two particles share one uid"),
    ],
)  # fmt: skip
def test_values_that_cannot_be(dataset, field, values, expected):
    dataset.fields[field] = values
    assert expected in error(dataset.write())


@pytest.mark.parametrize("field", ["blob/path", "blob/idx", "blob/psize_A", "ctf/cs_mm", "alignments3D/shift"])
def test_missing_fields_say_what_to_export(dataset, field):
    del dataset.fields[field]
    message = error(dataset.write())
    assert f"no field {field}; in cryoSPARC, " in message
    assert "export the particles" in message


def test_no_poses(dataset):
    dataset.move("alignments2D", pose=number(0))
    assert "no poses: alignments3D/pose is missing; in cryoSPARC, run a 3D refinement" in error(dataset.write())


def test_no_ctf_where_that_is_allowed(dataset):
    dataset.fields = {name: values for name, values in dataset.fields.items() if not name.startswith("ctf/")}
    particles = load_particles(dataset.write(), require_ctf=False)
    np.testing.assert_array_equal(particles.ctf.amplitude_contrast, 1)
    assert "ctf/df1_A" in error(dataset.path)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_is_unpickled(tmp_path):
    hostile = np.array([(1, Hostile(tmp_path / "broken-in"))], dtype=[("uid", "u8"), ("blob/path", "O")])
    np.save(tmp_path / "a.npy", hostile, allow_pickle=True)
    path = (tmp_path / "a.npy").rename(tmp_path / "a.cs")
    assert "plain values" in error(path)
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "broken-in")))
    assert "cannot be read as a cryoSPARC file" in error(path)
    assert not (tmp_path / "broken-in").exists()


@pytest.mark.parametrize(
    "content",
    [
        np.zeros(3),
        np.zeros((2, 2), dtype=[("uid", "u8")]),
        np.zeros(2, dtype=[("blob/idx", "u4")]),
        np.zeros(0, dtype=[("uid", "u8")]),
        np.ones(1, dtype=[("uid", "u8"), ("blob/path", "S3", (2,))]),
        np.array([(1, b"\xff\xfe")], dtype=[("uid", "u8"), ("blob/path", "S2")]),
        np.ones(1, dtype=[("uid", "u8"), ("blob", [("idx", "u4")])]),
    ],
)
def test_arrays_that_are_no_particle_table(tmp_path, content):
    with (tmp_path / "a.cs").open("wb") as file:
        np.save(file, content)
    error(tmp_path / "a.cs")


def test_files_that_are_damaged(dataset):
    content = dataset.write().read_bytes()
    for damaged in (b"", b"text", content[:50], content[:9] + b"((" + content[11:]):
        dataset.path.write_bytes(damaged)
        assert "cannot be read as a cryoSPARC file" in error(dataset.path)
    dataset.path.write_bytes(content[:-20])
    assert "cut short: the header promises 4 particles" in error(dataset.path)
    dataset.path.write_bytes(b"\x95CSDAT" + content)
    assert "compressed stream format; write it as a plain .cs file" in error(dataset.path)
    dataset.path.unlink()
    assert "no such file" in error(dataset.path)


def test_headers_longer_than_numpy_reads(dataset):
    """NumPy stops at 10,000 bytes of header, which a heterogeneous refinement with passthrough fields passes."""
    dataset.fields |= {f"alignments_class3D_{number}/a_field_with_a_name": VECTORS for number in range(400)}
    with dataset.write().open("rb") as file, pytest.raises(ValueError, match="max_header_size"):
        np.load(file)
    assert len(load_particles(dataset.path)) == COUNT


def test_without_cryosparc_tools(dataset, monkeypatch):
    dataset.write()
    monkeypatch.setitem(sys.modules, "cryosparc.dataset", None)
    assert "pip install 'cryoformer[cryosparc]'" in error(dataset.path)


def test_result_group(tmp_path):
    fields = ["uid", "blob/path", "blob/idx", "ctf/df1_A", "alignments_class_0/pose", "alignments3D_multi/pose"]
    path = write_csg(tmp_path / "chosen.cs", fields, 12)
    group = yaml.safe_load(path.read_text())
    assert path == tmp_path / "chosen.csg"
    assert group["group"]["type"] == "particle"
    assert {name: result["type"] for name, result in group["results"].items()} == {
        "blob": "particle.blob",
        "ctf": "particle.ctf",
        "alignments_class_0": "particle.alignments3D",
        "alignments3D_multi": "particle.alignments3D_multi",
    }
    assert all((result["metafile"], result["num_items"]) == (">chosen.cs", 12) for result in group["results"].values())


def test_real_refinement(shared_data):
    """2,019 particles against what cryoDRGN made of the same file."""
    from cryoformer.formats.cryodrgn.pickled_arrays import load_pickled_arrays

    folder = shared_data / "metadata"
    particles = load_particles(folder / "cryosparc_P12_J24_001_particles.cs", require_images=False)
    rotations, fractions = load_pickled_arrays(folder / "pose.cs.pkl")
    (ctf,) = load_pickled_arrays(folder / "ctf2.pkl")
    assert (len(particles), particles.box, particles.declared_sign) == (2019, 180, -1)
    assert np.bincount(particles.half_set).tolist() == [0, 1010, 1009]
    np.testing.assert_allclose(particles.rotations, rotations, atol=1e-6)
    np.testing.assert_allclose(-particles.shifts_angstrom / (180 * 2.95), fractions, atol=1e-7)
    parameters = particles.ctf
    for column, values in enumerate(
        (
            particles.boxes, particles.pixel_sizes_angstrom, parameters.defocus_u_angstrom,
            parameters.defocus_v_angstrom, parameters.defocus_angle_degrees, parameters.voltage_kv,
            parameters.spherical_aberration_mm, parameters.amplitude_contrast, parameters.phase_shift_degrees,
        )
    ):  # fmt: skip
        np.testing.assert_allclose(np.asarray(values), ctf[:, column], rtol=1e-6)


def test_dark_particles_of_empiar_10076(shared_data):
    """Seven real images without poses: the .cs file and the STAR file lead to the same ones."""
    from cryoformer.formats.cryosparc.particles import ctf_parameters, declared_sign, image_references
    from cryoformer.formats.cryosparc.table import CryosparcTable
    from cryoformer.formats.relion.star import read_star_tables
    from cryoformer.particles.contrast import contrast_sign
    from cryoformer.particles.references import open_images, split_references

    path = shared_data / "metadata" / "empiar_10076_7.cs"
    assert "no poses" in error(path)
    table = CryosparcTable(path)
    stacks = open_images(image_references(table), path, None)
    star = path.with_suffix(".star")
    names = read_star_tables(star)[0]["rlnImageName"]
    images = stacks.read(np.arange(7))
    np.testing.assert_array_equal(images, open_images(split_references(names, star), star, None).read(np.arange(7)))
    pixel_sizes = table.positive("blob/psize_A")
    np.testing.assert_allclose(pixel_sizes, 1.31, atol=1e-4)
    assert stacks.headers[0].pixel_size_angstrom == 0
    found = contrast_sign(images, ctf_parameters(table), pixel_sizes)
    assert found.sign == declared_sign(table) == -1
    assert found.certain
