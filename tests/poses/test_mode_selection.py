"""Views that a map cannot tell apart: its alignments with itself give them, and images tell them apart."""

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
from cryoformer.poses.mode_selection import select_modes, with_equivalents

BOX, PIXEL, COUNT = 24, 5.0, 300
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


def test_images_tell_views_apart_that_the_map_they_were_found_with_could_not() -> None:
    generator = torch.Generator().manual_seed(0)
    rotations = torch.tensor(uniform_rotations(COUNT, seed=2)).float()
    plane, density = SlicePlane.of_box(BOX), arms((1.0, 1.0, 2.0))
    clean = plane.put(views(density, plane, rotations))
    shifts = 5 * torch.randn(COUNT, 2, generator=generator)
    noise = 0.5 * torch.fft.rfft2(torch.randn(COUNT, BOX, BOX, generator=generator))
    images = FourierImages(
        rotations=torch.eye(3).expand(COUNT, 3, 3).clone(),
        scale=torch.ones(COUNT),
        halves=torch.arange(COUNT) % 2,
        noise_power=torch.full((BOX // 2 + 1,), 0.25 * BOX**2),
        pixel_size_angstrom=PIXEL,
        voxel_angstrom=PIXEL,
        coefficients=clean * shift_phases(shifts, BOX, PIXEL) + noise,
        ctf=torch.ones(COUNT, BOX, BOX // 2 + 1),
    )
    assert len(BandImages.of(images)) == COUNT
    # Every image at one of its three views, whichever: as a search against a map of three arms alike leaves them.
    true = PoseModes(rotations[:, None], shifts[:, None], torch.zeros(COUNT, 1))
    three = with_equivalents(true, turns_about_the_axis(), PIXEL)
    drawn = torch.randint(3, (COUNT,), generator=generator)
    rows = torch.arange(COUNT)
    start = PoseModes(three.rotations[rows, drawn][:, None], three.shifts[rows, drawn][:, None], torch.zeros(COUNT, 1))
    modes = with_equivalents(start, turns_about_the_axis(), PIXEL)
    found, _ = select_modes(images, modes, 8.0, 0, torch.eye(3)[None])
    best, _ = found.best()
    # All the same third of a turn away from the truth, which one is for nobody to say.
    apart = [
        float((torch.einsum("nij,jk,nik->n", best, torch.tensor(turn).float(), rotations) > 2.9).float().mean())
        for turn in (np.eye(3), THIRD, THIRD.T)
    ]
    assert max(apart) > 0.9
