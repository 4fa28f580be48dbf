"""The first pass over the images: hot pixels are named; what may be constant is what nothing divides by."""

import numpy as np
import pytest

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.particles.check import check_images, farthest_pixels


def larger(dataset, box: int = 32):
    """The same with images of a box in which a pixel can be far from the others."""
    generator = np.random.default_rng(2)
    for name, images in dataset.stacks.items():
        dataset.stacks[name] = generator.normal(3.0, 2.0, (len(images), box, box)).astype(np.float32)
    dataset.optics["rlnImageSize"], dataset.optics["rlnImagePixelSize"] = box, 1.5
    return dataset


@pytest.mark.parametrize("value", [100.0, -1e6, 1e9])
def test_hot_pixels_are_named_with_their_rows(dataset, value, caplog):
    larger(dataset).stacks["first.mrcs"][0, 5, 9] = value
    dataset.stacks["sub/second.mrcs"][3, 20, 20] = value
    check_images(load_particles(dataset.write()))
    assert len(caplog.records) == 1
    assert "2 of 5 images have pixels more than 20 standard deviations" in caplog.text
    assert "row 2, 3; remove" in caplog.text


def test_a_bright_patch_does_not_hide_itself(dataset, caplog):
    """An edge of a carbon film, say, or ice."""
    larger(dataset).stacks["first.mrcs"][0, 3:8, 3:8] = 5000.0
    check_images(load_particles(dataset.write()))
    assert "1 of 5 images have pixels more than 20" in caplog.text


def test_noise_and_offsets_are_not_hot(dataset, caplog):
    for images in larger(dataset).stacks.values():
        images += 1e4
    check_images(load_particles(dataset.write()))
    assert not caplog.records


def test_copies_of_an_image_in_another_stack(dataset, caplog):
    """Rows that name different images of the same pixels: no table tells, but halves would share them."""
    stacks = larger(dataset).stacks
    stacks["sub/second.mrcs"][:2] = stacks["first.mrcs"][:2]
    check_images(load_particles(dataset.write()))
    assert "2 of 5 images hold the same pixels as another one (row 4 as row 3): copies" in caplog.text


def test_rows_of_one_image_are_no_copies(dataset, caplog):
    larger(dataset).particles["rlnImageName"] = "1@first.mrcs"
    particles = load_particles(dataset.write())
    caplog.clear()
    check_images(particles)
    assert not caplog.records


def test_distance_of_the_farthest_pixel():
    image = np.zeros((1, 10, 10), dtype=np.float32)
    image[0] = np.resize([1.0, -1.0], (10, 10))
    image[0, 0, 0] = 50.0
    assert farthest_pixels(image)[0] == pytest.approx(50.0 * 2.5631 / 2, rel=0.03)
    assert farthest_pixels(np.ones((1, 10, 10), dtype=np.float32))[0] == 0


def masked(dataset):
    """Images of a disc in nothing, as subtraction or a noiseless simulation leaves them."""
    offset = np.arange(32) - 16
    disc = np.hypot(offset[:, None], offset) < 10
    for images in larger(dataset).stacks.values():
        images *= disc
    return dataset


def test_a_flat_background_is_fine_where_nothing_is_normalised(dataset):
    particles = load_particles(masked(dataset).write())
    with pytest.raises(InputError, match="use them as they are with --normalise no"):
        check_images(particles)
    check_images(particles, normalise=False)


@pytest.mark.parametrize("value", [0.0, 7.5])
def test_a_blank_image_is_refused_all_the_same(dataset, value):
    masked(dataset).stacks["first.mrcs"][1] = value
    with pytest.raises(InputError, match="1 of 5 images are constant all over"):
        check_images(load_particles(dataset.write()), normalise=False)


def test_every_command_takes_them(dataset, tmp_path, capsys):
    dataset.particles = dataset.particles.loc[np.arange(25) % 5].reset_index(drop=True)
    dataset.particles["rlnImageName"] = [f"{row + 1}@first.mrcs" for row in range(25)]
    dataset.stacks = {"first.mrcs": np.zeros((25, 8, 8), dtype=np.float32)}
    path = str(masked(dataset).write())
    for command in (["baseline", "homogeneous", path, "--out", str(tmp_path / "a")], ["validate", path]):
        assert main(command) == 2
        assert "--normalise no" in capsys.readouterr().err
