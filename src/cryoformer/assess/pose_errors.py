"""The test of the poses (:mod:`cryoformer.poses.check`) as an outcome."""

import math

from cryoformer.assess.outcome import Outcome
from cryoformer.poses.check import PoseCheck

NAME = "poses"


def poses_outcome(check: PoseCheck) -> Outcome:
    """The verdict."""
    prior = check.found.prior
    numbers = {
        "mean_fsc": check.agreement,
        "mean_fsc_refined": check.agreement_refined,
        "turn_degrees": math.degrees(prior.turn),
        "shift_angstrom": prior.shift,
    }
    return Outcome(NAME, "fails" if check.are_off else "holds", check.sentence, numbers)
