"""Stage B of a run: images held out of training are held out of it too, and still get their latents."""

from dataclasses import replace

import pytest
import torch

from cryoformer.images.fourier_images import Images
from cryoformer.imaging.grids import crop_volume, enlarge_volume
from cryoformer.linear import linear_stage
from cryoformer.linear.consensus import Consensus, reconstruct_consensus
from cryoformer.linear.linear_stage import LinearStage, _flexible, drawn_rows, fit_linear_stage
from cryoformer.linear.occupancy import flexible_region, occupancy_mask
from cryoformer.linear.ppca import PPCA, expectation, fit_ppca, linear_volumes, maximisation
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.linear.regions import EVERYWHERE
from cryoformer.progress import RunLog
from cryoformer.training.held_out_filter import split_held_out
from toy_images import PIXEL, simulate

SETTINGS = PPCASettings(box=16, dimension=2, iterations=4)


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    return split_held_out(torch.arange(600), seed=0)


@pytest.fixture(scope="module")
def consensus(moving) -> Consensus:
    return reconstruct_consensus(moving.images)


@pytest.fixture(scope="module")
def found(moving, rows, consensus) -> LinearStage:
    return fit_linear_stage(moving.images, consensus, SETTINGS, 0, RunLog(None), rows[0])


def test_held_out_images_have_no_say_in_what_training_starts_from(moving, rows, consensus, found) -> None:
    train, held_out = rows
    coefficients = moving.images.coefficients.clone()
    coefficients[held_out] *= -3.0
    images = replace(moving.images, coefficients=coefficients)
    other = fit_linear_stage(images, consensus, SETTINGS, 0, RunLog(None), train)
    torch.testing.assert_close(other.latents[train], found.latents[train])
    torch.testing.assert_close(other.flexible, found.flexible)
    torch.testing.assert_close(other.density_scale, found.density_scale)
    assert (other.latents[held_out] - found.latents[held_out]).abs().max() > 0.1


def test_density_scale_is_how_much_the_density_varies_at_the_full_box(moving, found) -> None:
    states = torch.stack([moving.density(t) for t in moving.t.tolist()])
    true = float(states.std(dim=0)[found.flexible > 0.5].mean())
    assert float(found.density_scale) == pytest.approx(true, rel=0.35)


def test_full_box_shows_what_moves_where_it_moves(moving, found) -> None:
    """Better than the low box could: the basis agrees with the derivative of the motion."""
    step = (moving.density(0.9) - moving.density(0.1)).reshape(-1)
    assert abs(float(torch.cosine_similarity(found.basis[0].reshape(-1), step, dim=0))) > 0.8
    assert bool((found.flexible[step.view(found.flexible.shape).abs() > 0.3] > 0.5).all())
    assert float(found.flexible[found.occupancy < 0.5].max()) < 0.5


def test_held_out_images_are_read_as_well_as_the_others(moving, rows, found) -> None:
    t = torch.tensor(moving.t, dtype=torch.float32)
    held_out = rows[1]
    correlation = torch.corrcoef(torch.stack([found.latents[held_out, 0], t[held_out]]))[0, 1]
    assert correlation.abs() > 0.8
    assert torch.linalg.eigvalsh(found.covariance).min() > 0


def test_a_draw_is_of_the_rows_given_in_their_order() -> None:
    rows = torch.arange(0, 100, 3)
    drawn = drawn_rows(rows, 10, seed=0)
    assert len(drawn) == 10
    assert (drawn[1:] > drawn[:-1]).all()
    assert torch.isin(drawn, rows).all()
    assert torch.equal(drawn_rows(rows, 50, seed=0), rows)


def test_components_that_fit_noise_do_not_vary_anywhere() -> None:
    """Nothing moves, and yet the EM leaves components: estimated for latents that know their noise they come out again
    in both halves, and the voxels of the molecule all seem to vary."""
    still = simulate(400, noise=1.5, seed=4, moves=False)
    low = still.images
    mean = reconstruct_consensus(low).volume
    occupancy = occupancy_mask(mean, PIXEL)
    fitted = _plain_em(low, fit_ppca(low, mean, occupancy, 3, 1, seed=0), occupancy, 6)
    weak = torch.full((4, low.box // 2), 1e-6)
    naive = [
        linear_volumes(low.take(rows), _rows_of(fitted, rows), occupancy, weak).basis
        for rows in (low.half(0), low.half(1))
    ]
    fooled = flexible_region(naive[0], naive[1], occupancy, PIXEL).sum()
    found = (_flexible(low, fitted, occupancy, EVERYWHERE) > 0.5).sum()  # a little wider: it has a soft edge
    assert found < 0.3 * fooled


def _plain_em(images: Images, subspace: PPCA, mask: torch.Tensor, steps: int) -> PPCA:
    """With no image held out that would end it."""
    variance = None
    for _ in range(steps):
        subspace, equations = expectation(images, subspace)
        subspace, variance = maximisation(subspace, equations, mask, variance)
    return expectation(images, subspace, accumulate=False)[0]


def _rows_of(subspace: PPCA, rows: torch.Tensor) -> PPCA:
    return replace(subspace, latents=subspace.latents[rows], covariance=subspace.covariance[rows])


def test_beyond_the_largest_box_of_linear_volumes_nothing_varies_and_the_mean_is_the_consensus(
    moving, rows, consensus, found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_stage, "LARGEST_LINEAR_BOX", 16)
    banded = fit_linear_stage(moving.images, consensus, SETTINGS, 0, RunLog(None), rows[0])
    assert banded.basis.shape == found.basis.shape
    torch.testing.assert_close(banded.latents, found.latents)
    # What it knows is the band of the other.
    for ours, theirs in zip(banded.basis, found.basis, strict=True):
        ours, theirs = crop_volume(ours, 16).flatten(), crop_volume(theirs, 16).flatten()
        assert float(torch.cosine_similarity(ours, theirs, dim=0)) > 0.98
    high = banded.mean - enlarge_volume(crop_volume(banded.mean, 16), banded.mean.shape[-1])
    still = consensus.volume * found.occupancy
    torch.testing.assert_close(high, still - enlarge_volume(crop_volume(still, 16), len(still)), atol=1e-4, rtol=1e-3)
