"""Tables of an experiment's result, and a plain sentence on who is best.

Everything is made from the JSON of the result alone, so that committed pages come from committed figures.
"""

from collections.abc import Sequence
from typing import Any

from cryoformer.assess.compare import table_of

Row = dict[str, Any]
LARGER, SMALLER = 1, -1
SCORES = {
    "moving AUC": LARGER,
    "molecule AUC": LARGER,
    "moving A": SMALLER,
    "molecule A": SMALLER,
    "half maps A": SMALLER,
    "truth A": SMALLER,
    "truth AUC": LARGER,
}
"""Columns by which methods are compared, and which way is better; those of latents are besides, larger is better."""
LATENT_SCORES = ("R2", "class ")
"""How the columns of latents begin: there may be several coordinates, and classes."""
LEFT_TO_JSON = ("moving AUC, states", "molecule AUC, states", "moving A, states", "molecule A, states", "fit s")
REFERENCE_NAMES = {"noise_free_mean": "noise-free mean of the true states", "mask_alone": "the mask alone"}


def rows_of(result: dict[str, Any], stack: str) -> list[Row]:
    """One row a method, in the order of the recipe, then the references; missing figures are None."""
    found = result["stacks"][stack]
    make = _halves_row if result["kind"] == "halves" else _comparison_row
    scored = {} if result["kind"] == "halves" else {row.pop("name"): row for row in table_of(found)}
    names = [*found["labels"], *(name for name in found["sources"] if name not in found["labels"])]
    rows = [make(found, name, scored.get(name, {})) for name in names]
    columns = [column for column in dict.fromkeys(c for row in rows for c in row) if _said(rows, column)]
    return [{column: row.get(column) for column in columns} for row in rows]


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, the best of the methods (not of the references, and of two at least) in bold."""
    columns = list(rows[0])
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    best = {column: best_value(rows, column) for column in compared(rows)}
    for row in rows:
        cells = []
        for column in columns:
            text = cell(column, row[column])
            is_best = column in best and row[column] is not None and text == cell(column, best[column])
            cells.append(f"**{text}**" if is_best and not is_reference(row) else text)
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def best_value(rows: Sequence[Row], column: str) -> float | None:
    """The best figure of a column among the methods."""
    values = [row[column] for row in rows if not is_reference(row) and row.get(column) is not None]
    direction = SCORES.get(column, LARGER)
    return direction * max(direction * value for value in values) if values else None


def verdict(rows: Sequence[Row], first: str) -> str:
    """Which methods do better than the first one in what, as a sentence; ties as printed are no win.

    Args:
        first: name, as in the rows, of the method that the others are compared with.
    """
    ours = next(row for row in rows if row["method"] == first)
    columns = [column for column in compared(rows) if ours[column] is not None]
    wins = []
    for row in rows:
        if row is ours or is_reference(row):
            continue
        better = [column for column in columns if _is_better(column, row[column], ours[column])]
        if better:
            figures = ", ".join(
                f"{column} {cell(column, row[column])} against {cell(column, ours[column])}" for column in better
            )
            wins.append(f"{row['method']} ({figures}{_time(row, ours)})")
    if not columns:
        return "There is nothing to compare: no score that two methods have."
    if not wins:
        return f"No other method does better than {first} in any of: {', '.join(columns)}."
    return f"Better than {first}: {'; '.join(wins)}."


def cell(column: str, value: Any) -> str:
    """A figure as it is printed."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.{_digits(column)}f}"


def _digits(column: str) -> int:
    if column in ("s", "s in all", "images/s"):
        return 0
    return 2 if column.endswith(" A") or column in ("GiB", "s/volume") else 3


def is_score(column: str) -> bool:
    """Whether methods are compared by this column."""
    return column in SCORES or column.startswith(LATENT_SCORES)


def compared(rows: Sequence[Row]) -> list[str]:
    """Scores that two methods at least have."""
    methods = [row for row in rows if not is_reference(row)]
    return [c for c in rows[0] if is_score(c) and sum(row[c] is not None for row in methods) > 1]


def is_reference(row: Row) -> bool:
    """Whether the row is no method but a reference."""
    return row["method"] in REFERENCE_NAMES.values()


def first_method(result: dict[str, Any], stack: str) -> str:
    """Label of the method that the others of a stack are compared with: the first one that has scores."""
    found = result["stacks"][stack]
    return str(next(label for name, label in found["labels"].items() if name in found["sources"]))


def _comparison_row(found: dict[str, Any], name: str, scored: Row) -> Row:
    samples = found["sources"].get(name, {}).get("samples", {})
    resolutions = {
        f"{mask} A": samples[mask]["resolution_angstrom"] for mask in ("molecule", "moving") if mask in samples
    }
    scores = {column: value for column, value in scored.items() if column not in LEFT_TO_JSON}
    costs = _costs(found, name)
    each = samples.get("seconds_per_volume")
    costs["s/volume"] = each
    if costs["s"] is not None:
        # What a user waits for: a fit that is early and volumes that are slow are late together.
        costs["s in all"] = costs["s"] + samples.get("samples", 0) * (each or 0.0)
    return {"method": _label(found, name), **resolutions, **scores, **costs}


def _halves_row(found: dict[str, Any], name: str, scored: Row) -> Row:
    source = found["sources"].get(name, {})
    return {
        "method": _label(found, name),
        "half maps A": source.get("half_map_resolution_angstrom"),
        "truth A": source.get("truth_resolution_angstrom"),
        "truth AUC": source.get("truth_auc"),
        "promised - found": source.get("promised_too_much"),
        **_costs(found, name),
    }


def _costs(found: dict[str, Any], name: str) -> Row:
    training, fit = found["training"].get(name, {}), found["fits"].get(name, {})
    seconds = training.get("fit_seconds")
    return {
        "s": sum(seconds) if isinstance(seconds, list) else seconds,
        "images/s": training.get("images_per_second"),
        "GiB": fit.get("peak_memory_gib"),
    }


def _label(found: dict[str, Any], name: str) -> str:
    label = found["labels"].get(name) or REFERENCE_NAMES.get(name, name)
    return f"{label} (failed)" if found["fits"].get(name, {}).get("failed") else str(label)


def _said(rows: Sequence[Row], column: str) -> bool:
    return any(row.get(column) is not None for row in rows)


def _is_better(column: str, value: float | None, ours: float) -> bool:
    if value is None or cell(column, value) == cell(column, ours):
        return False
    return SCORES.get(column, LARGER) * (value - ours) > 0


def _time(row: Row, ours: Row) -> str:
    if row.get("s") is None or ours.get("s") is None:
        return ""
    return f"; {row['s']:.0f} s against {ours['s']:.0f} s"
