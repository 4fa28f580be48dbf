"""The M-step of the linear subspace against dense least squares over the voxels, with projections summed exactly."""

from dataclasses import dataclass

import pytest
import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.grids import grid_points, shell_mean
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.imaging.slices import SlicePlane, fourier_from_volume
from cryoformer.linear.ppca import PPCA, expectation, maximisation
from toy_images import white_images

BOX, IMAGES, NOISE = 10, 250, 0.3
POINTS = grid_points(BOX, 1.0)
MASK = POINTS.norm(dim=1) < 4
COVARIANCE = torch.tensor([[0.5, 0.2], [0.2, 0.3]])


@dataclass
class Scene:
    """Images of densities mean + z U, where z is known to within ``COVARIANCE``."""

    images: FourierImages
    state: PPCA
    waves: torch.Tensor  # exp(-2 pi i q x / D) of every image's slice at the voxels inside, [n, m, p]


def blob(x: float, y: float, z: float, sigma: float = 1.2) -> torch.Tensor:
    return torch.exp(-(POINTS - torch.tensor([x, y, z])).square().sum(dim=1) / (2 * sigma**2)) * MASK


@pytest.fixture(scope="module")
def scene() -> Scene:
    generator = torch.Generator().manual_seed(0)
    mean = blob(0, 0, 0, 1.6) + blob(-1, 1, 1)
    basis = torch.stack([0.6 * (blob(1.5, 1, 0) - blob(1.5, -1, 0)), 0.4 * (blob(0, 0, 2) - blob(-1, -1, -1))])
    rotations = torch.tensor(uniform_rotations(IMAGES, 1), dtype=torch.float32)
    plane = SlicePlane.of_box(BOX)
    slices = plane.kx[:, None] * rotations[:, None, 0] + plane.ky[:, None] * rotations[:, None, 1]
    waves = torch.exp(-2j * torch.pi / BOX * (slices.double() @ POINTS[MASK].double().T))
    latents = torch.randn(IMAGES, 2, generator=generator)
    true = latents + torch.randn(IMAGES, 2, generator=generator) @ torch.linalg.cholesky(COVARIANCE).T
    clean = (waves @ (mean + true @ basis)[:, MASK, None].to(waves.dtype))[..., 0]
    ctf = 0.3 + 0.7 * torch.rand(IMAGES, BOX, BOX // 2 + 1, generator=generator)
    pixels = NOISE * torch.randn(IMAGES, BOX, BOX, generator=generator)
    images = white_images(plane.put(clean.to(torch.complex64)) * ctf + torch.fft.rfft2(pixels), rotations, NOISE, ctf)
    shape = (BOX, BOX, BOX)
    state = PPCA(mean.view(shape), basis.view(-1, *shape), latents, COVARIANCE.repeat(IMAGES, 1, 1), 0.0)
    return Scene(images, state, waves)


def dense_least_squares(scene: Scene) -> torch.Tensor:
    """The most probable mean and basis [3, p] at the voxels inside, for latents of these means and covariances.

    A posterior is as good as several images with weights (1, z): the mean, and one more for each column of a square
    root of the covariance, without data.
    """
    images, state = scene.images, scene.state
    plane = SlicePlane.of_box(BOX)
    deviation = plane.take(images.noise_deviation()).double()
    deviation[0] = torch.inf  # the image's mean
    rows = scene.waves * (plane.take(images.ctf) / deviation)[..., None]
    # Complex noise of variance 1 has half of it in each part.
    rows = 2**0.5 * torch.view_as_real(rows).transpose(2, 3).flatten(1, 2)
    data = 2**0.5 * torch.view_as_real(plane.take(images.coefficients) / deviation).flatten(1)
    weights = torch.cat([torch.ones(IMAGES, 1), state.latents], dim=1).double()
    spread = torch.cat([torch.zeros(1, 2), torch.linalg.cholesky(COVARIANCE)]).double()
    moments = weights[:, :, None] * weights[:, None] + spread @ spread.T
    voxels = rows.shape[2]
    left = torch.einsum("nab,npq->apbq", moments, rows.mT @ rows).reshape(3 * voxels, 3 * voxels)
    right = torch.einsum("na,np->ap", weights, (rows.mT @ data[..., None])[..., 0]).reshape(-1)
    # Every coefficient of a volume is drawn from a Gaussian that is as wide as its shell was before.
    k = torch.fft.fftfreq(BOX, 1 / BOX)
    places = torch.cartesian_prod(k, k, k).flip(1).double()
    transform = torch.exp(-2j * torch.pi / BOX * (places @ POINTS[MASK].double().T))
    power = shell_mean(fourier_from_volume(torch.cat([state.mean[None], state.basis])).abs().square(), BOX).double()
    shell = places.norm(dim=1).round().long().clamp(max=BOX // 2 - 1)
    prior = [(transform.mH / each[shell] @ transform).real for each in power]
    return torch.linalg.solve(left + torch.block_diag(*prior), right).view(3, voxels)


def test_m_step_is_dense_least_squares(scene: Scene) -> None:
    """Interpolated slices and a mask that is put on afterwards are not the same, but come near it."""
    state = scene.state
    _, equations = expectation(scene.images, state, fixed=True)
    found, _ = maximisation(state, equations, MASK.float().view(BOX, BOX, BOX), None)
    # The basis comes turned and scaled; the densities of the images are what both agree on.
    ours = found.volumes(found.latents).flatten(1)[:, MASK].double()
    mean, *basis = dense_least_squares(scene)
    theirs = mean + state.latents.double() @ torch.stack(basis)
    assert float((ours.mean(dim=0) - theirs.mean(dim=0)).norm() / theirs.mean(dim=0).norm()) < 0.15
    ours, theirs = ours - ours.mean(dim=0), theirs - theirs.mean(dim=0)
    assert float((ours - theirs).norm() / theirs.norm()) < 0.3
    # Latents taken for certain would make the motion weaker by their covariance: by 1.4.
    assert abs(float((ours * theirs).sum() / theirs.square().sum()) - 1) < 0.08
