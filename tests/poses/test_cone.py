"""What rough rotations say of true ones: a prior on the angle, in scores and among modes; how a search asks for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryoformer.cli import main
from cryoformer.imaging.rotations import uniform_rotations
from cryoformer.poses.cone import Cone
from cryoformer.poses.global_search import PoseModes
from cryoformer.poses.matching import BandImages, score_tiles, views
from cryoformer.poses.structure import marginal_likelihood
from toy_images import BOX, simulate

VIEWS = torch.from_numpy(uniform_rotations(2000, seed=4)).float()


def angles(given: torch.Tensor, rotations: torch.Tensor) -> np.ndarray:
    turns = rotations[None] @ given[:, None].transpose(2, 3)
    return np.degrees(Rotation.from_matrix(turns.flatten(0, 1).numpy()).magnitude()).reshape(len(given), -1)


@pytest.mark.parametrize("degrees", [45.0, 90.0])
def test_the_prior_is_flat_within_the_angle_and_falls_beyond(degrees: float) -> None:
    cone = Cone(VIEWS[:3], degrees)
    prior, angle = cone.log_prior(VIEWS).numpy(), angles(VIEWS[:3], VIEWS)
    np.testing.assert_allclose(prior[angle < degrees - 0.1], 0)
    np.testing.assert_allclose(prior, -0.5 * (np.maximum(angle - degrees, 0) / 5) ** 2, atol=0.02)
    turn = np.radians(degrees)
    assert np.mean(angle < degrees) == pytest.approx((turn - np.sin(turn)) / np.pi, rel=0.05)
    np.testing.assert_allclose(cone.take(torch.tensor([2])).log_prior(VIEWS), prior[2:], rtol=1e-3)


def test_views_outside_score_less_and_views_inside_the_same() -> None:
    made = simulate(20, noise=0.5, moves=False)
    free, held = (BandImages.of(made.images, degrees).band(5.0) for degrees in (None, 90.0))
    grid, still = VIEWS[:300], torch.zeros(1, 2)
    slices = views(made.density(0.5), free.plane, grid)
    scores, priors = (
        torch.cat([tile.scores[:, 0].clone() for tile in score_tiles(each, slices, grid, still)])
        for each in (free, held)
    )
    torch.testing.assert_close(priors - scores, Cone(made.images.rotations, 90.0).log_prior(grid), atol=0.05, rtol=1e-3)
    # Rows that are taken keep their own rotations.
    rows = torch.tensor([7, 3])
    (tile,) = score_tiles(held.take(rows), slices, grid, still)
    torch.testing.assert_close(tile.scores[:, 0], priors[rows], atol=0.05, rtol=1e-3)


def test_modes_outside_are_left_out_but_for_the_last() -> None:
    given = torch.eye(3)[None].repeat(2, 1, 1)
    turns = [[10.0, 170.0, 60.0], [150.0, 120.0, 175.0]]
    rotations = torch.from_numpy(
        Rotation.from_rotvec(np.radians(np.ravel(turns))[:, None] * [1.0, 0.0, 0.0]).as_matrix()
    ).float()
    score = torch.tensor([[1.0, 9.0, 2.0], [5.0, 1.0, 7.0]])
    modes = PoseModes(rotations.view(2, 3, 3, 3), torch.zeros(2, 3, 2), score)
    kept = modes.within(Cone(given, 90.0)).log_likelihood
    assert kept.tolist() == [[1.0, -torch.inf, 2.0], [-torch.inf, 1.0, -torch.inf]]
    # What is not there does not count as near.
    gone = replace(modes, log_likelihood=torch.tensor([[-torch.inf, 9.0, -torch.inf], [5.0, -torch.inf, 7.0]]))
    assert gone.within(Cone(given, 90.0)).log_likelihood.tolist()[0] == [-torch.inf, 9.0, -torch.inf]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cone", "60"], "leave one out"),
        (["--search", "global", "--cone", "60"], "leave one out"),
        (["--search", "cone", "--cone", "5"], "expected 20 to 180 degrees"),
        (["--search", "cone", "--cone", "nan"], "expected 20 to 180 degrees"),
        (["--search", "cone", "--symmetry", "C2"], "not both"),
    ],
)
def test_angles_that_cannot_be_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["refine", str(tmp_path / "none.star"), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("degrees", [20.0, 90.0, None])
def test_no_density_explains_nothing_however_much_is_known_of_rotations(degrees: float | None) -> None:
    band = BandImages.of(simulate(20, noise=0.7).images, degrees).band(6.0)
    found = marginal_likelihood(band, torch.zeros(BOX, BOX, BOX), VIEWS, torch.zeros(1, 2))
    torch.testing.assert_close(found, torch.zeros(20), atol=1e-3, rtol=0)
