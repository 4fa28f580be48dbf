"""Rows of one image belong to one half, however they are written and however the halves come about."""

import os

import numpy as np
import pytest
import starfile
import torch

from cryoformer.formats import load_particles
from cryoformer.formats.choose import choose_rows
from cryoformer.formats.load import open_particle_file
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.linear import ppca
from cryoformer.particles.repeats import between_images, image_numbers, reference_numbers, shuffled
from cryoformer.run import stages
from cryoformer.run.train import train
from cryoformer.training import trainer
from cryoformer.training.held_out_filter import split_held_out
from toy_images import SMALL


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


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_image_under_two_names_of_its_file(dataset, link):
    dataset.write_stacks()
    link(dataset.folder / "first.mrcs", dataset.folder / "other.mrcs")
    dataset.particles["rlnImageName"] = ["2@first.mrcs", "2@other.mrcs", "1@first.mrcs", "1@other.mrcs", "3@first.mrcs"]
    dataset.stacks["other.mrcs"] = dataset.stacks["first.mrcs"]
    starfile.write({"optics": dataset.optics, "particles": dataset.particles}, dataset.path)
    assert image_numbers(load_particles(dataset.path)).tolist() == [0, 0, 1, 1, 2]


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


def test_prepared_images_know_repeats(dataset, tmp_path):
    images = prepare_images(load_particles(repeated(dataset).write()), tmp_path / "cache", ImageSettings(device="cpu"))
    assert images.part.images.tolist() == [0, 1, 2, 3, 4] * 8
    # Wherever only some rows are drawn, and in crops, this is still known.
    assert images.crop(4).draw(torch.arange(3, 33)).part.images.tolist() == ([0, 1, 2, 3, 4] * 8)[3:33]


def test_no_image_of_a_run_is_held_out_and_trained_on(particle_file, tmp_path, monkeypatch):
    """By the network, nor by the linear subspace, whose held-out tenth ends its EM."""
    lines = particle_file.read_text().splitlines()
    rows = [line for line in lines if "@" in line]
    path = tmp_path / "twice.star"
    shown = [line.replace("@", f"@{particle_file.parent}/") for line in rows]
    path.write_text("\n".join([line for line in lines if line not in rows and line.strip()] + 2 * shown) + "\n")
    splits, tenths = [], []
    held_out_of_em = ppca._expectation_held_out

    def split(*arguments):
        splits.append(split_held_out(*arguments))
        return splits[-1]

    def expectation(images, state, held_out):
        tenths.append((images.part.images, held_out))
        return held_out_of_em(images, state, held_out)

    monkeypatch.setattr(stages, "split_held_out", split)
    monkeypatch.setattr(trainer, "split_held_out", split)
    monkeypatch.setattr(ppca, "_expectation_held_out", expectation)
    # Fewer than are trained on, so that they are drawn.
    settings = SMALL | {"subspace": {"box": 16, "dimension": 1, "iterations": 2, "images": 400}, "stages": [
        {"box": 16, "epochs": 1}], "full_box": False}  # fmt: skip
    train(ParticleInput(path), tmp_path / "run", overrides=settings)
    images = np.arange(600) % 300
    assert len(splits) >= 2
    for trained, held_out in splits:
        assert not set(images[trained]) & set(images[held_out])
        assert len(trained) + len(held_out) == 600
    assert tenths
    for shown_here, held_out in tenths:
        assert len(shown_here) == 400
        assert not set(shown_here[held_out].tolist()) & set(shown_here[~held_out].tolist())


def test_rows_are_dealt_out_between_images():
    images = np.array([0, 1, 2, 0, 1, 3, 0, 4])
    for seed in range(20):
        rows = shuffled(images, np.random.default_rng(seed))
        assert sorted(rows) == list(range(8))
        place = between_images(rows, images, 3)
        assert place >= 3
        assert not set(images[rows[:place]]) & set(images[rows[place:]])
    # Without repeats, any order and any place.
    single = np.arange(100)
    np.testing.assert_array_equal(shuffled(single, np.random.default_rng(1)), np.random.default_rng(1).permutation(100))
    assert between_images(single, single, 37) == 37
