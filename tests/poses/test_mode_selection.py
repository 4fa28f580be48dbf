"""Views that a map cannot tell apart: its alignments with itself give them, and images tell them apart."""

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.fourier import shift_phases
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import SlicePlane
from cryoformer.poses.global_search import PoseModes
from cryoformer.poses.map_alignment import Alignment
from cryoformer.poses.matching import BandImages, views
from cryoformer.poses.mode_selection import select_modes, select_within, with_equivalents
from toy_images import BOX, PIXEL, white_images

COUNT = 300
THIRD = Rotation.from_rotvec([0, 0, 2 * np.pi / 3]).as_matrix()
AXIS = np.array([1.5, -1.0, 0.0])


def arms(heights: tuple[float, float, float]) -> torch.Tensor:
    """Three arms about an axis that misses the origin."""
    points, density = grid_points(BOX, 1.0), torch.zeros(BOX**3)
    for number, height in enumerate(heights):
        place = AXIS + np.linalg.matrix_power(THIRD, number) @ np.array([5.0, 0.0, 2.0])
        density += height * torch.exp(-(points - torch.tensor(place).float()).square().sum(dim=1) / 8)
    return density.reshape(BOX, BOX, BOX)


def turns_about_the_axis() -> list[Alignment]:
    return [Alignment(turn, AXIS - turn @ AXIS, False, 1.0) for turn in (THIRD, THIRD @ THIRD)]


def test_equivalent_modes_show_the_same_image() -> None:
    rotations = torch.tensor(uniform_rotations(5, seed=1)).float()
    shifts = torch.tensor([[3.0, -4.0]]).expand(5, 2)
    one = PoseModes(rotations[:, None], shifts[:, None], torch.zeros(5, 1))
    modes = with_equivalents(one, turns_about_the_axis(), PIXEL)
    assert modes.log_likelihood.shape == (5, 3)
    plane, density = SlicePlane.of_box(BOX), arms((1.0, 1.0, 1.0))
    k = torch.stack([plane.kx, plane.ky]) / (BOX * PIXEL)
    images = [
        views(density, plane, modes.rotations[:, m]) * torch.exp(-2j * torch.pi * (modes.shifts[:, m] @ k))
        for m in range(3)
    ]
    scale = float(images[0].abs().max())
    for other in images[1:]:
        torch.testing.assert_close(other / scale, images[0] / scale, atol=0.05, rtol=0)  # of interpolation


def shown(
    heights: tuple[float, float, float], noise: float, generator: torch.Generator
) -> tuple[FourierImages, torch.Tensor]:
    """Images at their true rotations, and their shifts."""
    rotations = torch.tensor(uniform_rotations(COUNT, seed=2)).float()
    plane = SlicePlane.of_box(BOX)
    clean = plane.put(views(arms(heights), plane, rotations))
    shifts = 5 * torch.randn(COUNT, 2, generator=generator)
    added = noise * torch.fft.rfft2(torch.randn(COUNT, BOX, BOX, generator=generator))
    return white_images(clean * shift_phases(shifts, BOX, PIXEL) + added, rotations, noise), shifts


def any_of_three(images: FourierImages, shifts: torch.Tensor, generator: torch.Generator) -> PoseModes:
    """The three views of every image, from any of them: as a search against a map of three arms alike leaves them."""
    true = PoseModes(images.rotations[:, None], shifts[:, None], torch.zeros(COUNT, 1))
    three = with_equivalents(true, turns_about_the_axis(), PIXEL)
    drawn, rows = torch.randint(3, (COUNT,), generator=generator), torch.arange(COUNT)
    start = PoseModes(three.rotations[rows, drawn][:, None], three.shifts[rows, drawn][:, None], torch.zeros(COUNT, 1))
    return with_equivalents(start, turns_about_the_axis(), PIXEL)


def right(found: PoseModes, true: torch.Tensor) -> float:
    """The share of images that are all the same third of a turn away from the truth: which one, nobody can say."""
    best, _ = found.best()
    return max(
        float((torch.einsum("nij,jk,nik->n", best, torch.tensor(turn).float(), true) > 2.9).float().mean())
        for turn in (np.eye(3), THIRD, THIRD.T)
    )


def test_images_tell_views_apart_that_the_map_they_were_found_with_could_not() -> None:
    generator = torch.Generator().manual_seed(0)
    images, shifts = shown((1.0, 1.0, 2.0), 0.5, generator)
    assert len(BandImages.of(images)) == COUNT
    modes = any_of_three(images, shifts, generator)
    found, _ = select_modes(images, modes, 8.0, 0, torch.eye(3)[None])
    assert right(found, images.rotations) > 0.9


def test_rough_rotations_tell_views_apart_that_images_cannot() -> None:
    generator, numbers = torch.Generator().manual_seed(0), np.random.default_rng(0)
    images, shifts = shown((1.0, 1.0, 1.15), 1.0, generator)
    axes = numbers.normal(size=(COUNT, 3))
    turns = np.radians(numbers.uniform(45, 90, (COUNT, 1))) * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    # In a frame of their own.
    frame = Rotation.from_rotvec([1.2, -0.3, 0.4]).as_matrix()
    given = torch.from_numpy(Rotation.from_rotvec(turns).as_matrix() @ images.rotations.double().numpy() @ frame)
    modes, group = any_of_three(images, shifts, generator), torch.eye(3)[None]
    free, _ = select_modes(images, modes, 8.0, 0, group)
    held, _ = select_within(replace(images, rotations=given.float()), free, 90.0, 8.0, 0, group)
    before, after = right(free, images.rotations), right(held, images.rotations)
    assert before < 0.8
    assert after > 0.9
