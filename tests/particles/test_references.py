"""Where a stack named in a STAR file is looked for."""

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.formats import load_particles


def move(dataset, where):
    """Write the data set, then move both stacks to ``where``, keeping their names only."""
    dataset.write()
    where.mkdir(parents=True, exist_ok=True)
    for name in dataset.stacks:
        (dataset.folder / name).rename(where / name.split("/")[-1])


def assert_images(particles, dataset):
    rows = np.arange(len(particles))
    np.testing.assert_array_equal(particles.images(rows), np.stack([dataset.image(row) for row in rows]))


def test_beside_the_star_file_by_name(dataset):
    move(dataset, dataset.folder)
    assert_images(load_particles(dataset.path), dataset)


def test_datadir_by_name(dataset):
    move(dataset, dataset.folder / "elsewhere")
    with pytest.raises(InputError, match="was not found"):
        load_particles(dataset.path)
    assert_images(load_particles(dataset.path, dataset.folder / "elsewhere"), dataset)


def test_datadir_with_the_path_kept(dataset):
    dataset.write()
    star = dataset.folder / "other" / "deep" / "er" / "and" / "deeper" / "particles.star"
    star.parent.mkdir(parents=True)
    dataset.path.rename(star)
    assert_images(load_particles(star, str(dataset.folder)), dataset)


def test_datadir_comes_first(dataset):
    dataset.write()
    dataset.stacks["first.mrcs"] += 1
    folder, dataset.folder = dataset.folder, dataset.folder / "newer"
    dataset.write_stacks()
    assert_images(load_particles(folder / "particles.star", dataset.folder), dataset)


def test_datadir_that_does_not_exist(dataset):
    with pytest.raises(InputError, match=r"--datadir .*nowhere: no such folder"):
        load_particles(dataset.write(), dataset.folder / "nowhere")


def test_absolute_paths(dataset):
    dataset.write()
    names = dataset.particles["rlnImageName"].str.split("@", expand=True)
    dataset.particles["rlnImageName"] = names[0] + "@" + str(dataset.folder) + "/" + names[1]
    folder, dataset.folder = dataset.folder, dataset.folder / "stars"
    dataset.folder.mkdir()
    dataset.stacks, stacks = {}, dataset.stacks
    particles = load_particles(dataset.write())
    dataset.stacks = {f"{folder}/{name}": images for name, images in stacks.items()}
    assert_images(particles, dataset)


def test_relative_to_the_project_folder(dataset):
    """RELION's STAR files lie two folders below the project, their image paths start at the project."""
    dataset.write()
    star = dataset.folder / "Refine3D" / "job012" / "run_data.star"
    star.parent.mkdir(parents=True)
    dataset.path.rename(star)
    assert_images(load_particles(star), dataset)


def test_a_name_without_index_is_the_first_image(dataset):
    dataset.particles.loc[0, "rlnImageName"] = "first.mrcs"
    particles = load_particles(dataset.write())
    np.testing.assert_array_equal(particles.images(np.array([0]))[0], dataset.stacks["first.mrcs"][0])


def test_one_file_cannot_stand_in_for_two_stacks_of_the_same_name(dataset):
    """Found by name alone, a/stack.mrcs and b/stack.mrcs would silently become one."""
    dataset.write()
    dataset.stacks = {"first.mrcs": dataset.stacks["first.mrcs"]}
    dataset.particles["rlnImageName"] = [f"1@{folder}/first.mrcs" for folder in "abaab"]
    with pytest.raises(InputError, match=r"'a/first.mrcs' and 'b/first.mrcs' are different stacks"):
        load_particles(dataset.write())


def test_two_spellings_of_one_path(dataset):
    dataset.particles.loc[0, "rlnImageName"] = "000002@./first.mrcs"
    particles = load_particles(dataset.write())
    np.testing.assert_array_equal(particles.images(np.array([0]))[0], dataset.stacks["first.mrcs"][1])


@pytest.mark.parametrize(
    "written", ["/old/project/sub/second.mrcs", "/other/sub/second.mrcs", "far/away/sub/second.mrcs"]
)
@pytest.mark.parametrize("with_datadir", [True, False])
def test_ends_of_paths_of_another_place(dataset, tmp_path, written, with_datadir):
    """A project that has moved, with absolute paths or with some folders less."""
    dataset.particles["rlnImageName"] = [f"{row + 1}@{written}" for row in (0, 1, 2, 3, 1)]
    path = dataset.write()
    job = tmp_path / "Refine3D" / "job9"
    job.mkdir(parents=True)
    moved = path.rename(job / path.name)
    particles = load_particles(moved, tmp_path if with_datadir else None)
    np.testing.assert_array_equal(particles.images(np.array([3]))[0], dataset.stacks["sub/second.mrcs"][3])


def test_a_link_leads_to_the_project(dataset, tmp_path):
    job = tmp_path / "project" / "Refine3D" / "job9"
    job.mkdir(parents=True)
    dataset.folder = tmp_path / "project"
    dataset.write().rename(job / "run_data.star")
    (tmp_path / "desk" / "far" / "from" / "it").mkdir(parents=True)
    link = tmp_path / "desk" / "far" / "from" / "it" / "run_data.star"
    link.symlink_to(job / "run_data.star")
    np.testing.assert_array_equal(load_particles(link).images(np.array([0]))[0], dataset.image(0))
