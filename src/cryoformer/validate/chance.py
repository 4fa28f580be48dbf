r"""Whether a number stands out from what chance gives, from a handful of draws of chance.

With n draws of mean m and standard deviation s (taken for Gaussian), one more draw is below

    x = m + t s sqrt(1 + 1 / n)

with the probability of Student's t with n - 1 degrees of freedom: the prediction interval, which is wide where the
draws are few. A number stands out if p < 0.01 and if it is above every draw. Where chance is known to have a long tail
that a handful of draws may miss, s is never taken for smaller than a given value.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

SIGNIFICANCE = 0.01
FEWEST_DRAWS = 3


@dataclass(frozen=True)
class Comparison:
    """An observed number against draws of chance."""

    observed: float
    p_value: float
    above_all: bool

    @property
    def stands_out(self) -> bool:
        """Beyond chance."""
        return self.above_all and self.p_value < SIGNIFICANCE


def against_chance(observed: float, draws: Sequence[float], least_deviation: float = 0.0) -> Comparison:
    """Compare with at least three draws, whose standard deviation is at least so large."""
    if len(draws) < FEWEST_DRAWS:
        raise ValueError(f"expected {FEWEST_DRAWS} or more draws of chance, got {len(draws)}")
    values = np.asarray(draws, dtype=np.float64)
    spread = max(float(values.std(ddof=1)), least_deviation) * np.sqrt(1.0 + 1.0 / len(values))
    # Draws that all are the same say nothing of their spread; whatever is above them then stands out.
    distance = (observed - values.mean()) / max(spread, np.finfo(np.float64).tiny)
    return Comparison(float(observed), float(student.sf(distance, len(values) - 1)), bool(observed > values.max()))
