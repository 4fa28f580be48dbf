"""Particles at one end of a motion, whose poses a search against one map got wrong, find them among its states."""

import math

import pytest
import roma
import torch

import swinging_bar
from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.poses import global_search
from cryoformer.poses.global_search import PoseModes
from cryoformer.poses.posterior import PosePrior
from cryoformer.poses.repeated_search import WORTH, RepeatedSearch, _changed
from cryoformer.poses.symmetry import rotation_group
from toy_images import BOX, PIXEL, blob, white_images

COUNT = 240
PRIOR = PosePrior(math.radians(6.0), 0.4 * PIXEL)


def body() -> torch.Tensor:
    """One that looks different from every side."""
    places = ((0.0, 0.0, 0.0), (-20.0, 10.0, 18.0), (-5.0, -22.0, -24.0), (8.0, -20.0, 26.0), (-10.0, 28.0, -14.0))
    return torch.stack([blob(place, 7.0) for place in places]).sum(dim=0)


@pytest.fixture(scope="module")
def swinging() -> tuple[FourierImages, torch.Tensor, torch.Tensor]:
    """Images, t, and what the density changes by from one end to the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swinging_bar, "body", body)
        images, t = swinging_bar.simulate(torch.zeros(COUNT, 3), noise=0.25)
        return images, torch.from_numpy(t), swinging_bar.density(1.0) - swinging_bar.density(0.0)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_search, "VIEWS", 1500)


def modes_at(rotations: torch.Tensor) -> PoseModes:
    return PoseModes(rotations[:, None], torch.zeros(len(rotations), 1, 2), torch.zeros(len(rotations), 1))


def searching(images: FourierImages, group: str = "C1") -> RepeatedSearch:
    return RepeatedSearch(images, 8.0, PIXEL, PRIOR, rotation_group(group), seed=0)


def degrees(modes: PoseModes, images: FourierImages) -> torch.Tensor:
    return roma.rotmat_geodesic_distance(modes.best()[0], images.rotations) * 180 / math.pi


def test_states_are_those_of_the_motion(swinging: tuple[FourierImages, torch.Tensor, torch.Tensor]) -> None:
    images, _, ends = swinging
    states, _ = searching(images).maps(modes_at(images.rotations))
    found = states[-1] - states[0]
    assert abs(torch.cosine_similarity(found.reshape(-1), ends.reshape(-1), dim=0)) > 0.7


def test_poses_of_one_end_are_found(swinging: tuple[FourierImages, torch.Tensor, torch.Tensor]) -> None:
    images, t, _ = swinging
    end, turn = t > 0.8, roma.rotvec_to_rotmat(torch.tensor([[1.2, 0.6, -0.4]]))
    wrong = modes_at(torch.where(end[:, None, None], turn @ images.rotations, images.rotations))
    found, (share,) = searching(images).run(wrong)
    assert share > 0.7 * float(end.float().mean())
    assert float(degrees(found, images)[end].median()) < 15
    assert float(degrees(found, images)[~end].median()) < 10


def test_poses_that_are_right_are_left(swinging: tuple[FourierImages, torch.Tensor, torch.Tensor]) -> None:
    images, *_ = swinging
    right = modes_at(images.rotations)
    found, (share,) = searching(images).run(right)
    assert found is right
    assert share < WORTH


def symmetric(count: int) -> FourierImages:
    """Particles of C2 that do not move."""
    group = rotation_group("C2")
    points = torch.tensor([[24.0, 6.0, 18.0], [10.0, -22.0, -20.0], [30.0, 18.0, -12.0], [6.0, 12.0, 30.0]])
    volume = torch.stack([blob(tuple((g @ point).tolist()), 7.0) for g in group for point in points]).sum(dim=0)
    rotations = torch.from_numpy(uniform_rotations(count, 4)).float()
    clean = splat_project(volume.reshape(1, -1).expand(count, -1), grid_points(BOX, PIXEL), rotations, None, BOX, PIXEL)
    noise = 0.4 * torch.randn(count, BOX, BOX, generator=torch.Generator().manual_seed(5))
    return white_images(clean + torch.fft.rfft2(noise), rotations, 0.4)


def test_one_map_of_a_point_group_is_searched_until_poses_stay() -> None:
    images = symmetric(COUNT)
    wrong = torch.arange(COUNT) % 5 < 2
    turn = roma.rotvec_to_rotmat(torch.tensor([[0.9, -0.7, 0.5]]))
    start = modes_at(torch.where(wrong[:, None, None], turn @ images.rotations, images.rotations))
    found, shares = searching(images, "C2").run(start)
    assert shares[0] > 0.3
    assert len(shares) > 1
    assert shares[-1] < 0.1 * shares[0]
    angles = [roma.rotmat_geodesic_distance(found.best()[0] @ g, images.rotations) for g in rotation_group("C2")]
    assert float(torch.stack(angles).amin(dim=0).rad2deg().median()) < 8


def test_a_view_that_looks_the_same_in_the_point_group_is_no_other() -> None:
    group = rotation_group("C4")
    rotations = torch.from_numpy(uniform_rotations(8, 6)).float()

    def modes(some: torch.Tensor) -> PoseModes:
        return PoseModes(some[:, None], torch.zeros(8, 1, 2), torch.zeros(8, 1))

    alike, other = rotations @ group[1].float(), rotations @ rotation_group("C3")[1].float()
    assert not _changed(modes(alike), modes(rotations), group).any()
    assert _changed(modes(other), modes(rotations), group).all()
