r"""Calibration: does the true coordinate lie in a latent's 68 % and 95 % region 68 % and 95 % of the time?

A particle's latent is reported as a mean m_i and a covariance S_i: z_i = m_i + e_i, e_i ~ N(0, S_i), where z_i is the
latent of its true conformation. The truth tells a motion coordinate t_i, not z_i, so first the curve z = c(t) is needed
that the motion draws in latent space. Posterior means shrink towards the middle, and a regression of m on t would
shrink with them; the errors of honest posteriors, though, are independent of the means,

    E[c(t_i) - m_i | m_i] = 0.

So c, a cubic in t, is chosen such that the mean of c(t) over particles with the same latent IS that latent: a
regression with instrumental variables (two-stage least squares), whose first stage is the mean over the nearest
neighbours in latent space. Then

    u_i = a . (m_i - c(t_i)) / sqrt(a . S_i a),   a = c'(t_i) / |c'(t_i)|

is how many standard deviations the latent is off along the motion, and the share of |u_i| below 0.994 and 1.960 is
what is to be compared with 68 % and 95 %. What happens across the curve has no truth and is left out.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre
from scipy.stats import norm
from sklearn.neighbors import NearestNeighbors

from cryoformer.assess.ground_truth import GroundTruth
from cryoformer.errors import InputError
from cryoformer.validate.outcome import Outcome, not_run

NAME = "calibration"
DEGREE = 3
NEIGHBOURS = 50
LEVELS = (0.68, 0.95)
TOLERANCE = 0.05
"""Coverage may be off by this much."""


@dataclass(frozen=True)
class Calibration:
    """Errors of n latents along the motion, in units of the standard deviations that they claim."""

    standardised: Float[np.ndarray, " n"]

    def coverage(self, level: float) -> float:
        """Share of particles whose true coordinate lies in the region that should hold ``level`` of them."""
        return float((np.abs(self.standardised) <= norm.ppf(0.5 + level / 2)).mean())

    @property
    def scale(self) -> float:
        """Factor by which the standard deviations would have to grow for the errors to have unit variance."""
        return float(np.sqrt((self.standardised**2).mean()))


def calibrate_run(
    mean: Float[np.ndarray, "n k"], covariance: Float[np.ndarray, "n k k"], truth: GroundTruth
) -> Outcome:
    """The calibration of a run's latents against a truth; not run where the truth is not one motion.

    Raises:
        InputError: as :func:`calibrate`.
    """
    if not truth.is_one_motion:
        return not_run(NAME, "It is along the curve of one motion; the truth has several coordinates or compositions.")
    return calibration_outcome(calibrate(mean, covariance, truth.t))


def calibrate(
    mean: Float[np.ndarray, "n k"], covariance: Float[np.ndarray, "n k k"], t: Float[np.ndarray, " n"]
) -> Calibration:
    """Errors of the latents along the curve of the true motion.

    Raises:
        InputError: the truth does not vary, or there are too few particles.
    """
    coefficients = motion_curve(mean, t)
    place = _place(t)
    curve = legendre.legvander(place, len(coefficients) - 1) @ coefficients
    tangent = np.stack([legendre.legval(place, legendre.legder(column)) for column in coefficients.T], axis=1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    error = ((mean - curve) * tangent).sum(axis=1)
    variance = np.einsum("ni,nij,nj->n", tangent, covariance, tangent)
    return Calibration(error / np.sqrt(variance))


def motion_curve(mean: Float[np.ndarray, "n k"], t: Float[np.ndarray, " n"]) -> Float[np.ndarray, "c k"]:
    """Legendre coefficients of c(t), t scaled to -1 ... 1; of lower degree where t has only a few values."""
    values = len(np.unique(t))
    if values < 2 or len(t) <= NEIGHBOURS:
        raise InputError(
            f"calibration: expected more than {NEIGHBOURS} particles whose true coordinate varies, found {len(t)} with "
            f"{values} different coordinates"
        )
    terms = legendre.legvander(_place(t), min(DEGREE, values - 1))
    found = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(mean).kneighbors(mean, return_distance=False)
    # The particle itself is left out: its own error is what it must not know.
    expected = terms[found[:, 1:]].mean(axis=1)
    return np.asarray(np.linalg.lstsq(expected, mean, rcond=None)[0])


def calibration_outcome(found: Calibration) -> Outcome:
    """The calibration in words and numbers."""
    coverage = {level: found.coverage(level) for level in LEVELS}
    off = max(abs(share - level) for level, share in coverage.items())
    shares = " and ".join(f"{100 * coverage[level]:.0f} %" for level in LEVELS)
    if off <= TOLERANCE:
        meaning = "the uncertainty of the latents can be taken at its word."
    elif found.scale > 1:
        meaning = f"the latents are {found.scale:.2f} times less certain than they claim."
    else:
        meaning = "the latents are more certain than they claim."
    return Outcome(
        NAME,
        "holds" if off <= TOLERANCE else "fails",
        f"The true coordinate lies in the 68 % and 95 % regions of {shares} of the particles: {meaning}",
        {
            "coverage_68": coverage[0.68],
            "coverage_95": coverage[0.95],
            "standard_deviation_factor": found.scale,
            "particles": len(found.standardised),
        },
    )


def _place(t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    low, high = float(t.min()), float(t.max())
    return np.asarray(2.0 * (t - low) / max(high - low, 1e-300) - 1.0, dtype=np.float64)
