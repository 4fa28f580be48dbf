"""The result as Markdown."""

from collections.abc import Sequence
from typing import Any

from racing.quality import SCORES


def tables(result: dict[str, Any]) -> str:
    """A heading that says what was run on what, and the tables of the parts that were run."""
    stack, machine = result["stack"], result["machine"]
    peer = machine["cryodrgn_versions"]
    versions = [f"cryoformer {machine['versions']['cryoformer']}", f"torch {machine['versions']['torch']}"]
    if peer:
        versions.append(f"cryoDRGN {peer['cryodrgn']} (torch {peer['torch']})")
    lines = [
        f"{stack['name']}: {stack['images']} images of {stack['box']} x {stack['box']} pixels. {machine['cpu']}, "
        f"{machine['threads']} threads of {machine['cores']} cores. {', '.join(versions)}.",
    ]
    if "pace" in result:
        lines += ["", *pace_table(result["pace"])]
    if "quality" in result:
        lines += ["", *quality_table(result["quality"]), *mark_table(result["quality"]["marks"])]
    return "\n".join(lines) + "\n"


def pace_table(pace: dict[str, Any]) -> list[str]:
    """One row per contestant."""
    head = ["", "images/s", "seconds per epoch", "peak GiB", "cores others used", "this project's images/s over it"]
    rows = [
        [
            name,
            number(of["images_per_second"]),
            number(of["seconds_per_epoch"]),
            f"{of['peak_gib']:.2f}",
            f"{of['others_cores']:.2f}",
            ratio,
        ]
        for name, of in pace["contestants"].items()
        for ratio in [number(pace["ratios"].get(name, {}).get("median"))]
    ]
    return table(head, rows)


def quality_table(quality: dict[str, Any]) -> list[str]:
    """One row per run or epoch, by time."""
    rows = [[f"this project, {row['name']}", row] for row in quality["this project"]]
    rows += [[f"cryoDRGN, epoch {row['epoch']}", row] for row in quality["cryoDRGN"]]
    head = ["", "seconds", *SCORES, "peak GiB"]
    return table(
        head,
        [
            [name, number(row["seconds"]), *(score(row.get(key)) for key in SCORES), number(row.get("peak_gib"))]
            for name, row in sorted(rows, key=lambda pair: pair[1]["seconds"] or 0.0)
        ],
    )


def mark_table(marks: dict[str, Any]) -> list[str]:
    """One row per mark: its scores, and the seconds at which each was first passed."""
    rows = [
        [name, key, score(mark["scores"].get(key)), *(number(mark[f"{who}, seconds"][key]) for who in WHO)]
        for name, mark in marks.items()
        for key in [*mark["scores"], "all"]
    ]
    return ["", *table(["mark", "score", "at least", *(f"{who}, seconds" for who in WHO)], rows)] if rows else []


WHO = ("this project", "cryoDRGN")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]]


def number(value: float | None) -> str:
    """Three digits, or a dash for nothing."""
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def score(value: float | None) -> str:
    """Three places, or a dash."""
    return "-" if value is None else f"{value:.3f}"
