"""cryoDRGN's files: images, poses.pkl and ctf.pkl that belong together, and all the ways in which they do not."""

import logging
import pickle

import mrcfile
import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.imaging.rotations import uniform_rotations

COUNT = 5


class CryodrgnDataset:
    """Two stacks of 3 and 2 images, and what cryoDRGN would say of them; a test changes it and writes it."""

    def __init__(self, folder) -> None:
        generator = np.random.default_rng(3)
        self.folder = folder
        self.images = generator.normal(size=(COUNT, 8, 8)).astype(np.float32)
        self.rotations = uniform_rotations(COUNT, 1).astype(np.float32)
        self.shifts = generator.uniform(-0.1, 0.1, (COUNT, 2)).astype(np.float32)
        defocus = generator.uniform(10000, 20000, COUNT)
        columns = (8, 1.5, defocus, defocus - 300, 30, 300, 2.7, 0.1, 90)
        self.ctf = np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.float32)

    def write(self, **changes):
        """Everything in a folder; returns the arguments of ``load_particles``."""
        content = {"poses": (self.rotations, self.shifts), "ctf": self.ctf} | changes
        for name, images in (("a.mrcs", self.images[:3]), ("b.mrcs", self.images[3:]), ("all.mrcs", self.images)):
            with mrcfile.new(self.folder / name, overwrite=True) as mrc:
                mrc.set_data(images)
                mrc.voxel_size = 1.0
        (self.folder / "stacks.txt").write_text("a.mrcs\nb.mrcs\n\n")
        for name, values in content.items():
            (self.folder / f"{name}.pkl").write_bytes(pickle.dumps(values))
        return {name: self.folder / f"{name}.pkl" for name in content}

    def write_star(self, name: str, rows, stack: str = "all.mrcs") -> None:
        lines = [f"{row + 1}@somewhere/{stack} 1 {1 + row % 2}" for row in rows]
        head = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnCtfDataAreCtfPremultiplied #2\n1 1\n\n"
        table = "data_particles\n\nloop_\n_rlnImageName #1\n_rlnOpticsGroup #2\n_rlnRandomSubset #3\n"
        (self.folder / name).write_text(head + table + "\n".join(lines) + "\n")


@pytest.fixture
def dataset(tmp_path):
    return CryodrgnDataset(tmp_path)


def error(path, **options) -> str:
    with pytest.raises(InputError) as caught:
        load_particles(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["all.mrcs", "stacks.txt"])
@pytest.mark.parametrize("require_images", [True, False])
def test_stack_and_list_of_stacks(dataset, name, require_images):
    pickles = dataset.write()
    particles = load_particles(dataset.folder / name, **pickles, require_images=require_images)
    np.testing.assert_array_equal(particles.rotations, dataset.rotations)
    np.testing.assert_allclose(particles.shifts_angstrom, -dataset.shifts * 8 * 1.5, rtol=1e-6)
    np.testing.assert_array_equal(particles.ctf.defocus_v_angstrom, dataset.ctf[:, 3])
    np.testing.assert_array_equal(particles.ctf.phase_shift_degrees, 90)
    assert (particles.box, particles.pixel_size_angstrom, particles.half_set) == (8, 1.5, None)
    np.testing.assert_array_equal(particles.images(np.arange(COUNT)), dataset.images)


def test_rotations_alone_are_centred(dataset):
    pickles = dataset.write(poses=dataset.rotations)
    assert not load_particles(dataset.folder / "all.mrcs", **pickles).shifts_angstrom.any()


def test_ctf_of_the_box_before_downsampling(dataset, caplog):
    """Images of 8 pixels, a CTF table of 32 pixels of 1.5 A: 6 A, and shifts that are fractions of the same 48 A."""
    dataset.ctf[:, 0] = 32
    pickles = dataset.write()
    with caplog.at_level(logging.INFO):
        particles = load_particles(dataset.folder / "all.mrcs", **pickles)
    assert (particles.box, particles.pixel_size_angstrom) == (8, 6.0)
    np.testing.assert_allclose(particles.shifts_angstrom, -dataset.shifts * 48, rtol=1e-6)
    assert "its box is 32 pixels of 1.5 A, that of the images 8: their pixel size is 6 A" in caplog.text


@pytest.mark.parametrize("star", ["all.star", "of_another_name.star"])
def test_a_star_file_counts_where_it_is_given(dataset, star):
    rows = [4, 0, 3]
    dataset.rotations, dataset.shifts, dataset.ctf = dataset.rotations[rows], dataset.shifts[rows], dataset.ctf[rows]
    pickles = dataset.write()
    dataset.write_star(star, rows)
    particles = load_particles(dataset.folder / star, dataset.folder, **pickles)
    np.testing.assert_array_equal(particles.images(np.arange(3)), dataset.images[rows])
    assert particles.half_set.tolist() == [1, 1, 2]
    assert particles.premultiplied.all()


@pytest.mark.parametrize("stars", [{"all.star": [4, 3, 2, 1, 0]}, {"a.star": [0, 2], "b.star": [1]}])
def test_a_stack_given_by_name_means_its_own_order(dataset, stars):
    """Whatever STAR files stand beside it."""
    pickles = dataset.write()
    for name, rows in stars.items():
        dataset.write_star(name, rows)
    for name in ("all.mrcs", "stacks.txt"):
        particles = load_particles(dataset.folder / name, **pickles)
        np.testing.assert_array_equal(particles.images(np.arange(COUNT)), dataset.images)
        np.testing.assert_array_equal(particles.rotations, dataset.rotations)


@pytest.mark.parametrize(("rows", "is_same"), [([0, 1, 2, 3, 4], True), ([1, 0, 2, 3, 4], False), ([0, 1], False)])
def test_a_folder_with_two_lists_of_images(dataset, rows, is_same):
    """A folder names neither: they must agree."""
    dataset.write()
    (dataset.folder / "all.mrcs").rename(dataset.folder / "particles.mrcs")
    dataset.write_star("particles.star", rows, stack="particles.mrcs")
    if is_same:
        np.testing.assert_array_equal(load_particles(dataset.folder).images(np.arange(COUNT)), dataset.images)
    else:
        message = error(dataset.folder)
        assert "particles.star and particles.mrcs list images in different orders; give the one that" in message


def test_a_star_file_of_other_images_is_left_alone(dataset):
    pickles = dataset.write()
    dataset.write_star("all.star", [0], stack="small.mrcs")
    dataset.write_star("other.star", [0], stack="not_all.mrcs")
    particles = load_particles(dataset.folder / "all.mrcs", **pickles)
    np.testing.assert_array_equal(particles.images(np.arange(COUNT)), dataset.images)


@pytest.mark.parametrize("short", ["poses", "ctf"])
def test_counts_that_differ_name_both_files(dataset, short):
    content = {"poses": (dataset.rotations[:3], dataset.shifts[:3]), "ctf": dataset.ctf[:3]}
    pickles = dataset.write(**{short: content[short]})
    message = error(dataset.folder / "all.mrcs", **pickles)
    assert f"{pickles[short]} has 3 rows, but {dataset.folder / 'all.mrcs'} has 5 images" in message


def test_a_count_that_fits_a_star_file_beside_the_stack_says_so(dataset):
    dataset.rotations, dataset.shifts, dataset.ctf = dataset.rotations[:2], dataset.shifts[:2], dataset.ctf[:2]
    pickles = dataset.write()
    dataset.write_star("all.star", [0, 2])
    message = error(dataset.folder / "all.mrcs", **pickles)
    assert "poses.pkl has 2 rows, but" in message
    assert "(all.star, which lists some of them, has 2: give it in place of the stack)" in message
    assert len(load_particles(dataset.folder / "all.star", **pickles)) == 2


def test_phase_shifts_that_are_all_nan_are_none(dataset, caplog):
    dataset.ctf[:, 8] = np.nan
    particles = load_particles(dataset.folder / "all.mrcs", **dataset.write())
    assert not particles.ctf.phase_shift_degrees.any()
    assert "the phase shift is NaN in every row; taken as 0" in caplog.text


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ((2, 8), np.nan, "row 3 has a phase shift that is no finite number (1 such rows)"),
        ((slice(None), 2), np.inf, "row 1 has a defocus U that is no finite number (5 such rows)"),
        ((1, 1), 0, "row 2 has a pixel size that is not above 0"),
        ((1, 0), 7.5, "row 2 has a box that is no whole number"),
        ((4, 7), 10, "row 5 has an amplitude contrast that is not from 0 to 1"),
    ],
)
def test_impossible_ctf(dataset, place, value, expected):
    dataset.ctf[place] = value
    assert f"ctf.pkl: {expected}" in error(dataset.folder / "all.mrcs", **dataset.write())


@pytest.mark.parametrize(
    ("poses", "expected"),
    [
        (np.zeros((5, 3)), "holds arrays of shape (5, 3), expected rotations of shape (n, 3, 3)"),
        (np.zeros((5, 3, 3)), "row 1 is no rotation matrix (5 such rows)"),
        (-np.tile(np.eye(3), (5, 1, 1)), "row 1 is no rotation matrix"),
        (np.full((5, 3, 3), np.nan), "row 1 holds NaN or infinite values"),
        ((np.tile(np.eye(3), (5, 1, 1)), np.zeros((4, 2))), "shifts of shape (4, 2), expected (5, 2)"),
        ({"rot": np.zeros(3)}, "no plain pickle of NumPy arrays"),
    ],
)
def test_impossible_poses(dataset, poses, expected):
    assert expected in error(dataset.folder / "all.mrcs", **dataset.write(poses=poses))


def test_poses_and_ctf_that_are_mistaken_for_one_another(dataset):
    pickles = dataset.write()
    message = error(dataset.folder / "all.mrcs", poses=pickles["ctf"], ctf=pickles["poses"])
    assert "give cryoDRGN's poses.pkl" in message


@pytest.mark.parametrize("name", ["all.mrcs", "stacks.txt"])
def test_images_alone_say_what_is_missing(dataset, name):
    pickles = dataset.write()
    assert "images alone hold no poses; give the STAR or .cs file" in error(dataset.folder / name)
    assert "--poses is given without --ctf" in error(dataset.folder / name, poses=pickles["poses"])
    assert "--ctf is given without --poses" in error(dataset.folder / name, ctf=pickles["ctf"])


@pytest.mark.parametrize("given", ["", "poses.pkl"])
def test_a_folder_or_its_poses(dataset, given):
    dataset.write()
    assert "none of images.star, particles.star, particles.txt" in error(dataset.folder / given)
    (dataset.folder / "stacks.txt").rename(dataset.folder / "particles.txt")
    assert len(load_particles(dataset.folder / given)) == COUNT
    (dataset.folder / "ctf.pkl").unlink()
    assert "ctf.pkl found; give" in error(dataset.folder / given)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "lists no stacks"),
        (b"a.mrcs\na.mrcs\n", "lists a stack twice"),
        (b"a.mrcs\nc.mrcs\n", "the image stack 'c.mrcs' was not found (tried"),
        (b"\xff\xfe\x00", "is no text"),
    ],
)
def test_lists_of_stacks_that_cannot_be_read(dataset, content, expected):
    pickles = dataset.write()
    (dataset.folder / "stacks.txt").write_bytes(content)
    assert expected in error(dataset.folder / "stacks.txt", **pickles)
    assert "no such file" in error(dataset.folder / "none.txt", **pickles)
    assert "no such file" in error(dataset.folder / "none.mrcs", **pickles)
    assert "expected .mrcs" in error(dataset.folder / "poses.pkl", **pickles)


def test_real_poses_and_ctf(shared_data, tmp_path):
    """cryoDRGN's reading of a RELION 3.0 file, on images of the box that it says."""
    from cryoformer.formats.cryodrgn.pickled_arrays import load_pickled_arrays

    folder = shared_data / "metadata"
    with mrcfile.new(tmp_path / "particles.mrcs") as mrc:
        mrc.set_data(np.zeros((5, 300, 300), dtype=np.int8))
    particles = load_particles(
        tmp_path / "particles.mrcs", poses=folder / "pose.star.pkl", ctf=folder / "ctf1.pkl", require_images=False
    )
    star = folder / "FinalRefinement-OriginalParticles-PfCRT.star"
    text = star.read_text().splitlines()
    place = next(number for number, line in enumerate(text) if line.startswith("_rlnVoltage"))
    rows = [f"{line} 0.1" if "@" in line else line for line in text[place + 1 :]]
    path = tmp_path / "with_contrast.star"
    path.write_text("\n".join([*text[: place + 1], "_rlnAmplitudeContrast #23", *rows]) + "\n")
    relion = load_particles(path, require_images=False)
    np.testing.assert_allclose(particles.rotations, relion.rotations, atol=1e-6)
    np.testing.assert_allclose(particles.shifts_angstrom, relion.shifts_angstrom, atol=1e-4)
    np.testing.assert_allclose(particles.pixel_sizes_angstrom, relion.pixel_sizes_angstrom, rtol=1e-6)
    for name in particles.ctf.__dataclass_fields__:
        np.testing.assert_allclose(getattr(particles.ctf, name), getattr(relion.ctf, name), rtol=1e-6)
    (ctf,) = load_pickled_arrays(folder / "ctf1.pkl")
    np.testing.assert_allclose(particles.ctf.defocus_angle_degrees, ctf[:, 4], rtol=1e-6)
