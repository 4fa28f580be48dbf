r"""How wide a state is taken: from few particles that are sure to be there to many that are near.

A narrow state has more noise, a wide one is blurred by other states. Half maps of one width cannot tell: the wider, the
better they agree. So each width is compared, in the region that moves, with the narrowest state of the other half of
the images, which is blurred least and shares no noise with it. With C_h the correlation of the two in a shell (mean
over both ways) and f_h the FSC of the two halves of width h, the map of both halves correlates with the unblurred
state as

    Q_h = C_h sqrt(2 / (1 + f_h)),

up to a factor that is the same for all widths. Among widths whose sum over shells is within 1 % of the best, the
narrowest is taken, because noise is filtered afterwards and blur is not.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cryoformer.imaging.fsc import fourier_shell_correlation
from cryoformer.states.posterior_mass import effective_number, posterior_mass, width_of_number

WIDTHS = 5
LEAST_PARTICLES = 80.0
WITHIN = 0.01
# Widths that leave nearly all particles are all alike.
MOST = 0.8
# Latents have a prior of deviation 1: what differs by less than this does not differ.
LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Width:
    """A width of a state, with the weights that it gives to all particles.

    Attributes:
        deviation: h, in units of the latents; infinite for all particles alike.
        weights: relative to the largest.
        effective: effective number of particles.
    """

    deviation: float
    weights: Float[np.ndarray, " n"]
    effective: float


def widths(away: Float[np.ndarray, "n q"], covariance: Float[np.ndarray, "n q q"]) -> list[Width]:
    """Widths to choose from, narrowest first, the last of all particles.

    Effective numbers go in equal ratios from the smallest that posteriors leave (or that a map needs) to all.

    Args:
        away: posterior means relative to the place.
        covariance: of the posteriors.
    """
    count = len(away)
    everything = Width(np.inf, np.ones(count), float(count))
    if np.ptp(away, axis=0).max() < LEAST_SPREAD:
        return [everything]
    narrowest = _width(away, covariance, min(LEAST_PARTICLES, count))
    if narrowest.effective > MOST * count:
        return [everything]
    ratio = count / narrowest.effective
    numbers = narrowest.effective * ratio ** (np.arange(1, WIDTHS) / WIDTHS)
    return [narrowest, *(_width(away, covariance, float(number)) for number in numbers), everything]


def _width(away: np.ndarray, covariance: np.ndarray, number: float) -> Width:
    deviation = width_of_number(away, covariance, number)
    weights = posterior_mass(away, covariance, deviation)
    weights = weights / weights.max()
    return Width(deviation, weights, effective_number(weights))


def agreement_with_narrowest(
    halves: Float[np.ndarray, "w 2 d d d"], region: Float[np.ndarray, "d d d"]
) -> Float[np.ndarray, "w s"]:
    """Q of every width (narrowest first) in every shell from 1 to D / 2 - 1, inside a soft region."""
    inside = halves * region
    narrowest = inside[0, [1, 0]]
    last = halves.shape[-1] // 2
    crossed = np.stack([fourier_shell_correlation(some, narrowest).mean(axis=0) for some in inside])
    own = np.stack([fourier_shell_correlation(some[0], some[1]) for some in inside]).clip(0.0, 1.0)
    return np.asarray((crossed * np.sqrt(2.0 / (1.0 + own)))[:, 1:last])


def choose_width(agreement: Float[np.ndarray, "w s"]) -> int:
    """The narrowest width that agrees within 1 % of the best."""
    total = agreement.sum(axis=1)
    return int(np.flatnonzero(total >= total.max() - WITHIN * abs(total.max()))[0])
