"""Rows of one image belong to one half, however they are written and however the halves come about."""

import numpy as np
import pytest

from cryoformer.formats import load_particles
from cryoformer.formats.choose import choose_rows
from cryoformer.formats.load import open_particle_file
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.particles.repeats import image_numbers, reference_numbers


def repeated(dataset, times: int = 8):
    """Every image of the data set this many times."""
    dataset.particles = dataset.particles.loc[np.tile(np.arange(5), times)].reset_index(drop=True)
    return dataset


def test_numbers_go_by_first_appearance(dataset):
    particles = load_particles(repeated(dataset, 2).write())
    np.testing.assert_array_equal(image_numbers(particles), [0, 1, 2, 3, 4] * 2)
    np.testing.assert_array_equal(reference_numbers(open_particle_file(dataset.path).references), [0, 1, 2, 3, 4] * 2)


def test_one_image_under_two_spellings(dataset):
    repeated(dataset, 2)
    names = dataset.particles["rlnImageName"]
    dataset.particles["rlnImageName"] = [*names[:5], *(name.replace("@", "@./").lstrip("0") for name in names[5:])]
    particles = load_particles(dataset.write())
    np.testing.assert_array_equal(image_numbers(particles), [0, 1, 2, 3, 4] * 2)
    np.testing.assert_array_equal(reference_numbers(open_particle_file(dataset.path).references), [0, 1, 2, 3, 4] * 2)


def test_images_of_one_index_in_two_stacks_are_two(dataset):
    dataset.particles["rlnImageName"] = [f"000002@{name}" for name in ["first.mrcs", "sub/second.mrcs"] * 2] + [
        "1@first.mrcs"
    ]
    np.testing.assert_array_equal(image_numbers(load_particles(dataset.write())), [0, 1, 0, 1, 2])


@pytest.mark.parametrize("given", [True, False])
def test_halves_of_prepared_images(dataset, tmp_path, given):
    repeated(dataset)
    if given:
        # The column puts every second appearance into the other half.
        dataset.particles["rlnRandomSubset"] = 1 + np.arange(40) // 5 % 2
        dataset.particles.loc[5:9, "rlnRandomSubset"] = [1, 2, 1, 2, 1]
        dataset.particles.loc[0:4, "rlnRandomSubset"] = [1, 2, 1, 2, 1]
    else:
        del dataset.particles["rlnRandomSubset"]
    images = prepare_images(load_particles(dataset.write()), tmp_path / "cache", ImageSettings(device="cpu"))
    halves = images.halves.reshape(8, 5)
    assert (halves == halves[0]).all()
    assert set(halves[0].tolist()) == {0, 1}
    if given:
        assert halves[0].tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_half_that_is_chosen(dataset, seed):
    repeated(dataset)
    del dataset.particles["rlnRandomSubset"]
    file = open_particle_file(dataset.write())
    images = reference_numbers(file.references)
    one, other = (choose_rows(40, None, half=half, seed=seed, images=images) for half in (1, 2))
    assert not set(images[one]) & set(images[other])
    assert len(one) + len(other) == 40


def test_a_half_of_the_file_that_tears_an_image_apart(dataset):
    repeated(dataset, 2)
    dataset.particles["rlnRandomSubset"] = [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]
    file = open_particle_file(dataset.write())
    rows = choose_rows(10, file.half_set, half=1, images=reference_numbers(file.references))
    assert rows.tolist() == [0, 2, 4, 5, 7, 9]
