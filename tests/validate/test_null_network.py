"""A stack of particles that do not move, read back as a user's would be, and the words on what a network gains."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoformer.formats import load_particles
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.linear.consensus import wiener_backprojection
from cryoformer.validate.null_network import (
    NetworkGain,
    can_be_simulated,
    network_gain,
    network_outcome,
    write_null_stack,
)
from toy_images import BOX, PIXEL, simulate


def test_written_stack_shows_the_density_in_the_same_poses(particle_file: Path, tmp_path: Path) -> None:
    particles = load_particles(particle_file)
    images = prepare_images(particles, tmp_path / "cache", ImageSettings(invert="no"))
    density = simulate(1, noise=0.0).density(0.5)
    star = write_null_stack(particles, images, density, tmp_path / "null", seed=0)
    again = load_particles(star)
    assert len(again) == len(particles)
    assert np.allclose(again.rotations, particles.rotations, atol=1e-5)
    assert again.pixel_size_angstrom == pytest.approx(PIXEL)
    assert again.half_set is not None
    assert np.array_equal(again.half_set, images.halves.numpy() + 1)
    found = wiener_backprojection(prepare_images(again, tmp_path / "cache", ImageSettings(invert="no"))).volume
    cosine = torch.nn.functional.cosine_similarity(found.reshape(-1), density.reshape(-1), dim=0)
    assert float(cosine) > 0.9


def test_what_cannot_be_simulated_is_known(particle_file: Path) -> None:
    particles = load_particles(particle_file)
    assert can_be_simulated(particles)
    sizes = particles.pixel_sizes_angstrom.copy()
    sizes[0] *= 1.01
    assert not can_be_simulated(replace(particles, pixel_sizes_angstrom=sizes))
    assert not can_be_simulated(replace(particles, premultiplied=np.ones(len(particles), dtype=bool)))
    assert not can_be_simulated(replace(particles, boxes=np.full(len(particles), BOX + 1)))


def test_gain_is_that_of_the_last_epoch() -> None:
    lines = [{"stage": "consensus"}, {"held_out_gain": 1.0, "conditioning": 0.1}]
    found = network_gain([*lines, {"held_out_gain": 2.0, "conditioning": 0.2}, {"stage": "done"}])
    assert found == NetworkGain(2.0, 0.2)
    assert network_gain([{"stage": "consensus"}]) is None


@pytest.mark.parametrize(
    ("own", "null", "images", "verdict"),
    # 4.7 and 2.4 differ by 0.24 by chance in 250 images, and by 1.2 in 10.
    [(4.7, 2.4, 250, "holds"), (4.7, 2.4, 10, "fails"), (2.6, 2.4, 250, "fails"), (-0.1, -9.0, 250, "fails")],
)
def test_gain_must_be_positive_and_beyond_the_nulls(own: float, null: float, images: int, verdict: str) -> None:
    assert network_outcome(NetworkGain(own, 0.3), NetworkGain(null, 0.01), images).verdict == verdict
