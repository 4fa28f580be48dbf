"""What a test of a result says: a verdict, one sentence for the biologist, and the numbers behind it."""

from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["holds", "fails", "not run"]


@dataclass(frozen=True)
class Outcome:
    """One test.

    Attributes:
        name: as in docs/validation.md.
        verdict: "holds" where the result stands the test, "fails" where it does not.
        sentence: what that means.
        numbers: plain numbers and lists of them.
    """

    name: str
    verdict: Verdict
    sentence: str
    numbers: dict[str, Any]

    def facts(self) -> dict[str, Any]:
        """As ``validation.json`` holds it: flat."""
        return {"verdict": self.verdict, "sentence": self.sentence, **self.numbers}


def not_run(name: str, why: str) -> Outcome:
    """A test that could not be done."""
    return Outcome(name, "not run", why, {})
