"""What validate says of parts: both halves see them move, none where nothing moves."""

from typing import Any

import pytest

from cryoformer.validate.parts import halves_outcome, null_outcome


def line(degrees: float, error: float, angstrom: float = 1.0, angstrom_error: float = 1.0) -> dict[str, Any]:
    halves = [degrees - error, degrees + error]
    return {"stage": "part", "part": 1, "degrees": degrees, "error": error, "angstrom": angstrom,
            "angstrom_error": angstrom_error, "halves_degrees": halves}  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([line(57.0, 2.0)], "holds"),
        ([line(5.0, 2.0)], "fails"),
        ([line(5.0, 2.0, angstrom=20.0, angstrom_error=1.0)], "holds"),
        ([line(57.0, 2.0), line(5.0, 2.0) | {"part": 2}], "fails"),
        ([], "not run"),
    ],
)
def test_a_motion_is_real_if_halves_differ_by_less(parts: list[dict[str, Any]], verdict: str):
    outcome = halves_outcome([{"stage": "consensus"}, *parts])
    assert outcome.verdict == verdict
    if parts:
        assert f"turns by {parts[0]['degrees']:.0f} +- {parts[0]['error']:.1f} degrees" in outcome.sentence


@pytest.mark.parametrize(("found", "null", "verdict"), [(1, 0, "holds"), (2, 1, "fails"), (0, 0, "not run")])
def test_no_part_where_nothing_moves(found: int, null: int, verdict: str):
    assert null_outcome(found, null).verdict == verdict
