"""What can hold density: the molecule with what is near it, not the solvent, not a speck far away."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryoformer.images.fourier_images import FourierImages
from cryoformer.imaging.fourier import radii
from cryoformer.imaging.grids import voxel_radii
from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.linear.occupancy import (
    DILATION_ANGSTROM,
    EDGE_ANGSTROM,
    fitted_occupancy,
    flexible_region,
    occupancy_mask,
    occupied_region,
    soft_edge,
)
from cryoformer.linear.ppca import fit_ppca
from toy_images import BOX, PIXEL, blob, simulate

CENTRE = BOX // 2


def test_an_edge_begins_at_the_dilation_and_ends_after_its_width() -> None:
    inside = np.zeros((30, 30, 30), dtype=bool)
    inside[:, :, :10] = True
    profile = soft_edge(inside, 2.0, 6.0, 8.0)[15, 15]
    # The last voxel inside is number 9: 6 A are three voxels further, 14 A seven.
    np.testing.assert_allclose(profile[:13], 1.0)
    np.testing.assert_allclose(profile[16:], 0.0, atol=1e-6)
    assert profile[14] == pytest.approx(0.5, abs=1e-6)


def test_the_molecule_is_occupied_and_the_solvent_is_not() -> None:
    noise = 0.05 * torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(0))
    volume = blob((0.0, 0.0, 0.0), 10.0)
    region = occupied_region(volume + noise, PIXEL)
    assert region[(volume > 0.3).numpy()].all()
    assert not region[(voxel_radii(BOX) > 9).numpy()].any()
    # A map of noise alone: nothing stands out of what its corners show.
    assert occupied_region(noise, PIXEL).mean() < 0.01


def test_a_speck_far_away_is_left_out_and_a_second_body_is_not() -> None:
    body = blob((-15.0, 0.0, 0.0), 10.0)
    speck = torch.zeros(BOX, BOX, BOX)
    speck[CENTRE, CENTRE, CENTRE + 9] = 3.0
    assert not occupied_region(body + speck, PIXEL)[CENTRE, CENTRE, CENTRE + 9]
    both = occupied_region(body + blob((45.0, 0.0, 0.0), 5.0), PIXEL)
    assert both[CENTRE, CENTRE, CENTRE + 9]
    assert both[CENTRE, CENTRE, CENTRE - 3]


def test_the_mask_reaches_as_far_as_parts_may_swing() -> None:
    volume = blob((0.0, 0.0, 0.0), 10.0)
    mask = occupancy_mask(volume, PIXEL)
    away = voxel_radii(BOX) * PIXEL
    region = torch.from_numpy(occupied_region(volume, PIXEL))
    edge = float(away[region].max())
    assert float(mask[away < edge + DILATION_ANGSTROM - PIXEL].min()) == 1.0
    assert float(mask[away > edge + DILATION_ANGSTROM + EDGE_ANGSTROM].max()) == 0.0


def halves(signal: torch.Tensor, noise: float, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [signal + noise * torch.randn(1, BOX, BOX, BOX, generator=generator) for _ in range(2)]


def test_where_the_halves_disagree_nothing_is_flexible() -> None:
    one, other = halves(blob((15.0, 0.0, 0.0), 8.0)[None], 0.01, 0)
    occupied = (voxel_radii(BOX) < 9).float()
    region = flexible_region(one, other, occupied, PIXEL)
    assert region[CENTRE, CENTRE, CENTRE + 3]
    assert not region[CENTRE, CENTRE, CENTRE - 3]
    # Opposite signs: what varies in one half does the reverse in the other. One voxel is given in any case.
    assert flexible_region(one, -other, occupied, PIXEL).sum() < 0.01 * region.sum() + 2


def test_noise_that_the_solvent_has_too_is_not_flexible() -> None:
    """Strong noise everywhere: by its largest values it would pass for motion."""
    occupied = (voxel_radii(BOX) < 6).float()
    regions = [flexible_region(*halves(torch.zeros(1, BOX, BOX, BOX), 1.0, seed), occupied, PIXEL) for seed in range(5)]
    assert np.mean([region[occupied.numpy() > 0].mean() for region in regions]) < 0.01


def test_images_that_were_low_passed_get_a_softer_edge_and_less_of_a_component() -> None:
    """Neither signal nor noise beyond a fifth of Nyquist: what a sharp mask puts there would look like motion."""
    still = simulate(400, noise=0.7, seed=5, moves=False).images
    assert torch.equal(_edge_of(still), occupancy_mask(reconstruct_consensus(still).volume, PIXEL))
    low_pass = torch.exp(-0.5 * (radii(still.box) / 2.5) ** 2)
    low_passed = replace(still, coefficients=still.coefficients * low_pass)
    consensus = reconstruct_consensus(low_passed)
    sharp, soft = occupancy_mask(consensus.volume, PIXEL), _edge_of(low_passed)
    assert soft.mean() > 1.05 * sharp.mean()
    images = low_passed.with_noise(consensus.noise_power)
    gains = [fit_ppca(images, consensus.volume, mask, 2, 10, seed=0).log_likelihood for mask in (sharp, soft)]
    assert gains[1] < 0.7 * gains[0]


def _edge_of(images: FourierImages) -> torch.Tensor:
    consensus = reconstruct_consensus(images)
    return fitted_occupancy(images.with_noise(consensus.noise_power), consensus)
