"""Parts that move: do both halves of the images see them move, and are none found where nothing moves?

While a run fits its parts, either half of the images goes two rounds alone, with densities and states of its own, from
where all had come (:mod:`cryoformer.parts.fit`). Half of what the halves differ by is the standard error of the motion.
"""

from typing import Any

from cryoformer.validate.outcome import Outcome, not_run

NAME, NULL_NAME = "parts", "null_of_parts"
ERRORS = 3.0
"""A motion is real if it is larger than so many of its standard errors."""


def halves_outcome(metrics: list[dict[str, Any]]) -> Outcome:
    """From the lines of ``metrics.jsonl``."""
    # Of a run that went on after a kill there may be two lines of a part: the last one counts.
    parts = list(
        {line["part"]: line for line in metrics if line["stage"] == "part" and "halves_degrees" in line}.values()
    )
    if not parts:
        return not_run(NAME, "The run has no parts that move.")
    real, facts = [], []
    for line in parts:
        turns = line["degrees"] > ERRORS * line["error"]
        real.append(turns or line["angstrom"] > ERRORS * line["angstrom_error"])
        one, other = line["halves_degrees"]
        facts.append(
            f"Part {line['part']} turns by {line['degrees']:.0f} +- {line['error']:.1f} degrees; either half of the "
            f"images, with states and densities of its own, has it turn by {one:.0f} and {other:.0f}."
        )
    if not all(real):
        facts.append(f"What moves by less than {ERRORS:.0f} standard errors may stand still.")
    numbers = {name: [line[name] for line in parts] for name in ("degrees", "error", "angstrom", "angstrom_error")}
    return Outcome(NAME, "holds" if all(real) else "fails", " ".join(facts), numbers)


def null_outcome(observed: int, null: int) -> Outcome:
    """Parts of the run, and of one on particles that do not move."""
    if not observed:
        return not_run(NULL_NAME, "The run has no parts that move.")
    found = "none" if not null else f"{null} as well: those of the run may be chance"
    return Outcome(
        NULL_NAME,
        "fails" if null else "holds",
        f"The run found {observed} part{'s' * (observed > 1)} that move; where particles do not move it found {found}.",
        {"found": observed, "found_null": null},
    )
