"""Coverage of honest and of boastful posteriors, over a curved motion with known truth."""

from pathlib import Path

import numpy as np
import pytest

from assess.toy_mixture import write_mixture
from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, ToyRun, write_truth
from cryoformer.assess.ground_truth import load_truth
from cryoformer.errors import InputError
from cryoformer.validate.calibration import calibrate, calibrate_run, calibration_outcome, motion_curve


def arc(t: np.ndarray) -> np.ndarray:
    """A bent motion in three dimensions, the third of which it does not use."""
    return np.stack([2.0 * t - 1.0, 0.8 * (2.0 * t - 1.0) ** 2, 0.0 * t], axis=1)


def posteriors(sigma: float, count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact posteriors over the states of the arc, from a noisy sight of each particle's place on it."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 1, count)
    seen = arc(t) + sigma * rng.standard_normal((count, 3))
    states = arc(np.linspace(0, 1, 200))
    weights = np.exp(-((seen[:, None] - states) ** 2).sum(axis=2) / (2 * sigma**2))
    weights /= weights.sum(axis=1, keepdims=True)
    mean = weights @ states
    second = np.einsum("nm,mj,mk->njk", weights, states, states)
    return mean, second - mean[:, :, None] * mean[:, None] + 1e-6 * np.eye(3), t


@pytest.mark.parametrize("sigma", [0.1, 0.3])
def test_exact_posteriors_are_calibrated(sigma: float) -> None:
    found = calibrate(*posteriors(sigma))
    # Posteriors near the ends of the motion are not Gaussian, which costs a few points, more so the wider they are.
    assert found.coverage(0.68) == pytest.approx(0.68, abs=0.04)
    assert found.coverage(0.95) == pytest.approx(0.95, abs=0.03)
    assert found.scale == pytest.approx(1.0, abs=0.15)
    assert calibration_outcome(found).verdict == "holds"


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_scale_says_by_how_much_uncertainties_are_off(factor: float) -> None:
    mean, covariance, t = posteriors(0.2)
    honest, wrong = calibrate(mean, covariance, t), calibrate(mean, factor**2 * covariance, t)
    assert wrong.scale == pytest.approx(honest.scale / factor)
    outcome = calibration_outcome(wrong)
    assert outcome.verdict == "fails"
    assert ("less certain" if factor < 1 else "more certain") in outcome.sentence


def test_curve_does_not_shrink_with_the_posterior_means() -> None:
    mean, _, t = posteriors(0.5, count=20_000)
    coefficients = motion_curve(mean, t)
    # P_1 is t on its scale of -1 ... 1, so the first component of the arc has coefficient 1.
    assert coefficients[1, 0] == pytest.approx(1.0, abs=0.05)
    slope = np.polyfit(2 * t - 1, mean[:, 0], 1)[0]
    assert slope < 0.85  # what a plain regression would have taken for the curve


def test_truth_without_motion_and_too_few_particles_are_refused() -> None:
    mean, covariance, t = posteriors(0.2, count=100)
    with pytest.raises(InputError, match="varies"):
        calibrate(mean, covariance, np.zeros_like(t))
    with pytest.raises(InputError, match="more than 50"):
        calibrate(mean[:20], covariance[:20], t[:20])


def test_truth_of_two_states_gives_a_line() -> None:
    mean, _, t = posteriors(0.2)
    assert len(motion_curve(mean, np.round(t))) == 2


def test_calibration_is_of_one_motion(tmp_path: Path) -> None:
    write_mixture(tmp_path / "several")
    several = load_truth(tmp_path / "several", BOX, PIXEL_SIZE, PARTICLES)
    run = ToyRun(tmp_path)
    assert calibrate_run(run.latents, run.latents_covariance, several).verdict == "not run"
    one = load_truth(write_truth(tmp_path / "one"), BOX, PIXEL_SIZE, PARTICLES)
    assert calibrate_run(run.latents, run.latents_covariance, one).verdict != "not run"
