"""A body that stays and a bar that swings: the toy that tests of parts look at."""

import math

import numpy as np
import roma
import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import splat_project
from cryoformer.parts.motion import LatentTerms, PartMotions
from cryoformer.parts.rounds import PartModel
from toy_images import BOX, PIXEL, blob, white_images

PIVOT = torch.tensor([20.0, 0.0, 0.0])
ANGLE = math.radians(60)


def body() -> torch.Tensor:
    return blob((0.0, 0.0, 0.0), 12.0) + blob((-20.0, 10.0, 15.0), 8.0)


def bar() -> list[torch.Tensor]:
    """Centres of the blobs of the part, from its pivot."""
    return [torch.tensor(place) for place in ([0.0, 0.0, 0.0], [12.0, 0.0, 0.0], [22.0, 4.0, 5.0])]


def turn(t: float) -> torch.Tensor:
    return roma.rotvec_to_rotmat(torch.tensor([0.0, 0.0, ANGLE * (t - 0.5)]))


def density(t: float, more: torch.Tensor | None = None) -> torch.Tensor:
    turned = turn(t) if more is None else more @ turn(t)
    moved = [blob(tuple((turned @ place + PIVOT).tolist()), 6.0) for place in bar()]
    return body() + sum(moved)


def simulate(off: torch.Tensor, noise: float = 0.7) -> tuple[FourierImages, np.ndarray]:
    """Images of the bar on its path, turned by ``off`` [n, 3] from there."""
    rng = np.random.default_rng(1)
    count = len(off)
    t = rng.uniform(0, 1, count)
    rotations = roma.special_procrustes(torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(1)))
    turned = roma.rotvec_to_rotmat(off)
    densities = torch.stack([density(x, more).reshape(-1) for x, more in zip(t.tolist(), turned, strict=True)])
    held = densities.amax(dim=0) > 1e-3
    clean = splat_project(densities[:, held], grid_points(BOX, PIXEL)[held], rotations, None, BOX, PIXEL)
    noisy = clean + torch.fft.rfft2(noise * torch.randn(count, BOX, BOX, generator=torch.Generator().manual_seed(2)))
    images = white_images(noisy, rotations, noise)
    return images, t


def states(count: int = 32) -> torch.Tensor:
    """Latents of as many states: t itself."""
    return torch.linspace(0, 1, count)[:, None]


def motions_of(share: float) -> PartMotions:
    """The true motion, turned by a share of what it should be."""
    terms = LatentTerms.of_population(torch.linspace(0, 1, 201)[:, None])
    wanted = torch.zeros(201, 6)
    wanted[:, 2] = share * ANGLE * torch.linspace(-0.5, 0.5, 201)
    fitted = torch.linalg.lstsq(terms(torch.linspace(0, 1, 201)[:, None]), wanted).solution
    return PartMotions(terms, PIVOT[None], fitted[None])


def swing(motions: PartMotions) -> float:
    """Radians from the first state to the last."""
    ends = motions.at(states(2)).rotations[0]
    return float(roma.rotmat_geodesic_distance(ends[0], ends[1]))


def own_masks() -> torch.Tensor:
    away = torch.stack([(grid_points(BOX, PIXEL) - place).norm(dim=1) for place in bar()]).amin(dim=0)
    return (away < 18.0).float().view(1, BOX, BOX, BOX)


def model_of(motions: PartMotions) -> PartModel:
    occupancy = (grid_points(BOX, PIXEL).norm(dim=1) < 55.0).float().view(BOX, BOX, BOX)
    return PartModel(motions, own_masks(), occupancy, states())
