"""A run knows its particle file by what it holds, not by its place: moved files are found, changed ones refused."""

import shutil

import mrcfile
import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.convert import convert
from cryoformer.formats.downsample import crop_images
from cryoformer.formats.fingerprint import _mark, difference, fingerprint, pixel_marks
from cryoformer.formats.load import open_particle_file
from cryoformer.formats.particle_input import ParticleInput, reopen
from cryoformer.formats.select import write_selection

from .test_cryodrgn import CryodrgnDataset


@pytest.fixture
def project(dataset):
    """A project with a particle file in a job's folder; its images lie below the project."""
    dataset.folder = dataset.folder / "project"
    dataset.folder.mkdir()
    job = dataset.folder / "Refine3D" / "job012"
    job.mkdir(parents=True)
    shutil.copy(dataset.write(), job / "run_data.star")
    dataset.path.unlink()
    return dataset.folder


def recorded(project, **given) -> dict:
    """What a run in the project's folder writes down."""
    source = ParticleInput(project / "Refine3D" / "job012" / "run_data.star", **given)
    particles = source.load(0)
    return source.facts() | {"fingerprint": particles.fingerprint | {"pixels": pixel_marks(particles)}}


def test_a_project_that_has_moved(project):
    facts = recorded(project)
    moved = project.rename(project.with_name("elsewhere"))
    found = reopen(moved / "runs" / "RUN", facts)
    assert found.file.path == moved / "Refine3D" / "job012" / "run_data.star"
    assert len(found.read(moved / "RUN" / "rows.npy")) == 5


def test_a_run_apart_from_its_project(project, tmp_path):
    facts = recorded(project)
    moved = project.rename(tmp_path / "deep")
    with pytest.raises(InputError, match=r"its particles are gone from .*say with --particles where they are"):
        reopen(tmp_path / "apart" / "RUN", facts)
    star = moved / "Refine3D" / "job012" / "run_data.star"
    assert reopen(tmp_path / "apart" / "RUN", facts, star).file.path == star


def test_pickles_and_datadir_move_with_the_project(tmp_path):
    (tmp_path / "old" / "drgn").mkdir(parents=True)
    given = CryodrgnDataset(tmp_path / "old" / "drgn")
    source = ParticleInput(given.folder / "stacks.txt", given.folder, **given.write())
    facts = source.facts() | {"fingerprint": source.load(0).fingerprint}
    (tmp_path / "old").rename(tmp_path / "new")
    particles = reopen(tmp_path / "new" / "RUN", facts).read(tmp_path / "none.npy")
    np.testing.assert_array_equal(particles.images(np.arange(5)), given.images)


def rewritten(project, change) -> None:
    path = project / "Refine3D" / "job012" / "run_data.star"
    lines = path.read_text().splitlines()
    rows = [number for number, line in enumerate(lines) if "@" in line]
    new = change([lines[row] for row in rows])
    path.write_text("\n".join([*lines[: rows[0]], *new, *lines[rows[-1] + 1 :]]) + "\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[::-1], "has other images in its rows, or in another order"),
        (lambda rows: rows[:-1], "has 4 particles, not 5"),
        (lambda rows: [*rows[:-1], rows[0]], "has other images in its rows"),
        (lambda rows: [row.replace("first.mrcs", "fourth.mrcs") for row in rows], "has other images in its rows"),
    ],
    ids=["sorted anew", "one gone", "one replaced", "another stack"],
)
def test_a_file_that_was_written_anew(project, change, said):
    facts = recorded(project)
    rewritten(project, change)
    with pytest.raises(InputError) as caught:
        reopen(project / "RUN", facts)
    assert said in str(caught.value)
    assert "is not the file that" in str(caught.value)
    with pytest.raises(InputError, match="is not the file that"):
        reopen(project / "RUN", facts, project / "Refine3D" / "job012" / "run_data.star")


def test_other_poses_matter_where_poses_are_read(project):
    facts = recorded(project)
    rewritten(project, lambda rows: [row.replace("10.000000", "55.000000") for row in rows])
    found = reopen(project / "RUN", facts)
    with pytest.raises(InputError, match="has other poses or other CTFs than when the run was trained"):
        found.read(project / "none.npy")


def test_of_two_files_the_one_that_fits_is_taken(project):
    """The project was copied, and the original went on."""
    facts = recorded(project)
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    rewritten(project, lambda rows: rows[::-1])
    assert reopen(copy / "RUN", facts).file.path.is_relative_to(copy)


def test_paths_digits_and_formats_are_no_difference(dataset, tmp_path):
    before = fingerprint(load_particles(dataset.write()))
    moved = tmp_path / "1" / "2" / "3" / "4" / "5" / "moved.star"
    write_selection(dataset.path, np.arange(5), moved)
    assert difference(before, fingerprint(load_particles(moved))) == ""
    convert(dataset.path, tmp_path / "other.cs", invert="no")
    assert difference(before, fingerprint(load_particles(tmp_path / "other.cs"))) == ""


@pytest.fixture
def stacks(project):
    """The stacks of the project written anew with their images changed so."""

    def change(function) -> None:
        for path in (project / "first.mrcs", project / "sub" / "second.mrcs"):
            images = function(mrcfile.read(path))
            with mrcfile.new(path, overwrite=True) as mrc:
                mrc.set_data(images)
                mrc.set_image_stack()
                mrc.voxel_size = 1.5

    return change


def test_a_stack_that_was_written_anew(project, stacks):
    """The particle file is the same: only the pixels say that its rows are other particles by now."""
    facts = recorded(project)
    stacks(lambda images: images[::-1])
    with pytest.raises(InputError, match=r"has other pixels in row 2 \(4 of 5 rows looked at\)"):
        reopen(project / "RUN", facts)


def test_other_numbers_for_the_same_pixels(project, stacks):
    """Scaled, in another format and cropped to fewer pixels, images are still the same."""
    facts = recorded(project)
    stacks(lambda images: (100 * images + 7).astype(np.int16))
    assert len(reopen(project / "RUN", facts).read(project / "none.npy")) == 5


def test_a_smaller_stack_of_the_same_particles(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 32, 32)).astype(np.float32)
    marks = [bytes(_mark(some[0])) for some in (images, crop_images(images, 24), images[1:])]
    assert marks[0] == marks[1] != marks[2]


def test_stacks_that_are_not_here_are_not_asked(project):
    """Rows can be selected from a run where its images are not."""
    facts = recorded(project)
    (project / "first.mrcs").unlink()
    (project / "sub" / "second.mrcs").write_bytes(b"cut short")
    assert len(reopen(project / "RUN", facts).file) == 5


def test_runs_without_a_fingerprint_are_opened_by_place(project):
    facts = recorded(project)
    del facts["fingerprint"]
    assert len(reopen(project / "RUN", facts).read(project / "none.npy")) == 5


def test_rows_of_pickles_become_pickles(tmp_path):
    given = CryodrgnDataset(tmp_path)
    paths = given.write()
    file = open_particle_file(tmp_path / "all.mrcs", **paths)
    out = write_selection(file, np.array([4, 1]), tmp_path / "some" / "poses.pkl")
    particles = load_particles(out)
    np.testing.assert_array_equal(particles.images(np.arange(2)), given.images[[4, 1]])
    np.testing.assert_allclose(particles.rotations, given.rotations[[4, 1]], atol=1e-6)
