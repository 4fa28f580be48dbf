"""The splat projector against the paper's renderer, against RELION, and against its own adjoint."""

import mrcfile
import numpy as np
import pytest
import starfile
import torch

from cryoformer.imaging.fourier import fourier_to_images, images_to_fourier, radii, shift_phases
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.projection import image_band, image_band_by_fft, image_positions, splat, splat_project
from cryoformer.imaging.reference import project_volume_reference
from cryoformer.imaging.rotations import matrix_from_euler, uniform_rotations


def project(
    volume: torch.Tensor, rotations: np.ndarray, shifts: torch.Tensor | None, pixel_size: float
) -> torch.Tensor:
    box = volume.shape[-1]
    rotation = torch.tensor(rotations, dtype=torch.float32)
    density = volume.reshape(1, -1).expand(len(rotation), -1)
    half_plane = splat_project(density, grid_points(box, pixel_size), rotation, shifts, box, pixel_size)
    return fourier_to_images(half_plane, box)


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.corrcoef(a.reshape(-1).numpy(), b.reshape(-1).numpy())[0, 1])


def test_splat_agrees_with_reference_renderer(smooth_volume) -> None:
    volume, pixel_size = smooth_volume(32), 2.5
    rotations = uniform_rotations(6, seed=1)
    shifts = torch.tensor([[3.0, -5.0], [0.0, 0.0], [7.5, 2.5], [-4.0, -1.0], [2.0, 9.0], [1.0, 1.0]])
    images = project(volume, rotations, shifts, pixel_size)
    for image, rotation, shift in zip(images, rotations, shifts, strict=True):
        reference = project_volume_reference(volume, torch.tensor(rotation, dtype=torch.float32), shift, pixel_size)
        assert correlation(image, reference) > 0.995  # the reference's trilinear interpolation blurs
        assert abs(float(image.sum() / reference.sum()) - 1) < 0.02 or abs(float(reference.sum())) < 1


@pytest.mark.parametrize("name", ["rln_proj_65", "rln_proj_65_centered", "rln_proj_65_shifted"])
def test_projections_match_relion(shared_data, name: str) -> None:
    volume = torch.tensor(mrcfile.read(shared_data / "oracle/clean70SRibosome_vol_65p.mrc").astype(np.float32))
    tables = starfile.read(shared_data / f"oracle/{name}.star", always_dict=True)
    table = tables.get("particles", next(iter(tables.values())))
    expected = torch.tensor(mrcfile.read(shared_data / f"oracle/{name}.mrcs").astype(np.float32))
    angles = table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(dtype=float)
    # The centre of these odd boxes sits one pixel further than D // 2 in both directions. Beyond that an origin
    # (ox, oy) moved the content by minus itself, around the edges as a phase shift does.
    shifts = torch.ones(len(table), 2)
    if name.endswith("shifted"):
        shifts -= torch.tensor(table[["rlnOriginX", "rlnOriginY"]].to_numpy(dtype=np.float32))
    rotations = torch.tensor(matrix_from_euler(angles), dtype=torch.float32)
    density = volume.reshape(1, -1).expand(len(table), -1)
    half_plane = splat_project(density, grid_points(65, 1.0), rotations, None, 65, 1.0)
    images = fourier_to_images(half_plane * shift_phases(shifts, 65, 1.0), 65)
    scores = [correlation(image, other) for image, other in zip(images, expected, strict=True)]
    assert min(scores) >= 0.998, scores


@pytest.mark.parametrize(("box", "fine"), [(16, 40), (15, 38), (8, 16)])
def test_band_by_products_is_the_band_by_fft(box: int, fine: int) -> None:
    image = torch.randn(2, 3, fine, fine, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = image_band_by_fft(image, box)
    assert torch.allclose(image_band(image, box), expected, atol=1e-6 * float(expected.abs().max()))


def test_point_at_the_centre_stays_put() -> None:
    rotations = torch.tensor(uniform_rotations(100, seed=3), dtype=torch.float32)
    half_plane = splat_project(torch.ones(100, 1), torch.zeros(1, 3), rotations, None, 16, 1.0)
    images = fourier_to_images(half_plane, 16)
    assert torch.all(images.reshape(100, -1).argmax(dim=1) == 8 * 16 + 8)


def test_shift_moves_content_towards_positive_x_and_y() -> None:
    half_plane = splat_project(
        torch.ones(1, 1), torch.zeros(1, 3), torch.eye(3)[None], torch.tensor([[4.0, -6.0]]), 16, 2.0
    )
    peak = int(fourier_to_images(half_plane, 16).reshape(-1).argmax())
    assert (peak // 16, peak % 16) == (8 - 3, 8 + 2)


def test_coarser_image_is_the_crop_of_the_finer(smooth_volume) -> None:
    volume = smooth_volume(32)
    rotation = torch.tensor(uniform_rotations(1, seed=2), dtype=torch.float32)
    points, density = grid_points(32, 1.0), volume.reshape(1, -1)
    fine = splat_project(density, points, rotation, None, 32, 1.0)
    coarse = splat_project(density, points, rotation, None, 16, 2.0)
    band = torch.cat([fine[:, :7, :7], fine[:, -6:, :7]], dim=1)
    ours = torch.cat([coarse[:, :7, :7], coarse[:, -6:, :7]], dim=1)
    # Bilinear splatting aliases a little into the coarse band; a wrong scale or phase would be of order one.
    assert float((band - ours).norm() / band.norm()) < 0.02


def test_every_second_voxel_stands_for_eight() -> None:
    fine, coarse = grid_points(32, 1.0), grid_points(16, 2.0)
    rotation = torch.tensor(uniform_rotations(3, seed=6), dtype=torch.float32)

    def blob(points: torch.Tensor) -> torch.Tensor:
        """Too smooth for what a coarse grid cannot hold."""
        return torch.exp(-(points - torch.tensor([4.0, -2.0, 1.0])).square().sum(dim=1) / (2 * 2.5**2)).expand(3, -1)

    every = splat_project(blob(fine), fine, rotation, None, 32, 1.0)
    few = splat_project(blob(coarse), coarse, rotation, None, 32, 1.0, volume_ratio=8.0)
    band = radii(32) < 8  # the spectrum of the coarse grid comes again after 16 cycles
    torch.testing.assert_close(few[:, band], every[:, band], atol=5e-3 * float(every.abs().max()), rtol=0)


def test_adjoint_of_splat_is_its_gradient() -> None:
    """<A x, y> = <x, A^T y> with A^T from the backward pass, in float64."""
    generator = torch.Generator().manual_seed(0)
    rotations = torch.tensor(uniform_rotations(2, seed=0))
    positions = image_positions(torch.rand(50, 3, generator=generator, dtype=torch.float64) * 8 - 4, rotations)
    values = torch.randn(2, 3, 50, generator=generator, dtype=torch.float64, requires_grad=True)
    images = torch.fft.irfft2(splat(values, positions, 16, 1.0).to(torch.complex128), s=(16, 16))
    other = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    left = (images * other).sum()
    (transposed,) = torch.autograd.grad(left, values)
    assert torch.allclose((values * transposed).sum(), left.detach(), rtol=1e-5)


def test_gradients_to_densities_rotations_and_shifts() -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(7, 3, generator=generator, dtype=torch.float64) * 6 - 3
    density = torch.randn(2, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    rotations = torch.tensor(uniform_rotations(2, seed=5), requires_grad=True)
    shifts = torch.tensor([[0.3, -0.7], [1.1, 0.2]], dtype=torch.float64, requires_grad=True)

    def images(density, rotations, shifts):
        return torch.view_as_real(splat_project(density, points, rotations, shifts, 8, 1.0))

    assert torch.autograd.gradcheck(images, (density, rotations, shifts), eps=1e-6, atol=1e-5, rtol=1e-3)


def test_half_plane_round_trip() -> None:
    images = torch.randn(3, 10, 10)
    assert torch.allclose(fourier_to_images(images_to_fourier(images), 10), images, atol=1e-6)
