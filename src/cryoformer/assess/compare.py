"""Results of any methods side by side, scored on one truth by the same masks, images and metrics.

Everything is brought to the smallest box among the results, because the area under an FSC curve depends on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoformer.assess.evaluate import evaluate_sources
from cryoformer.assess.fsc_figure import fsc_figure
from cryoformer.assess.ground_truth import load_truth
from cryoformer.assess.results import Result, open_result
from cryoformer.decode.volume_source import VolumeSource
from cryoformer.errors import InputError
from cryoformer.files import write_json

COMPARISON_FILE, PLOT_FILE = "comparison.json", "comparison.png"
REFERENCES = ("noise_free_mean", "mask_alone")


@dataclass(frozen=True)
class Named:
    """A result as the user names it: ``NAME=PATH``, or ``NAME=FOLDER,TABLE`` for volumes."""

    name: str
    path: Path
    table: Path | None = None

    @staticmethod
    def parse(text: str) -> "Named":
        """From an argument.

        Raises:
            InputError: no NAME=PATH, or nothing at the path.
        """
        name, equals, place = text.partition("=")
        path, _, table = place.partition(",")
        if not equals or not name or not path:
            raise InputError(f"{text}: expected NAME=PATH, such as ours=run, or NAME=FOLDER,TABLE for volumes")
        if not Path(path).is_dir():
            raise InputError(f"{text}: there is no folder {path}")
        if not table:
            return Named(name, Path(path))
        places = [Path(table), Path(path) / table]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise InputError(f"{text}: there is no file {table}")
        return Named(name, Path(path), found)


def compare(
    truth_dir: Path | str, results: Sequence[Named], out: Path, images: int = 100, plot: bool = True
) -> dict[str, Any]:
    """Score results against one truth; writes ``comparison.json`` and, with ``plot``, ``comparison.png`` into ``out``.

    Raises:
        InputError: a result or the truth cannot be read, or they do not belong together.
    """
    names = [result.name for result in results]
    twice = [name for name in [*names, *REFERENCES] if [*names, *REFERENCES].count(name) > 1]
    if twice:
        raise InputError(f"the name {twice[0]} is given to two results; give each its own")
    opened = [open_result(result.path, result.name, result.table) for result in results]
    scores = score_results(opened, truth_dir, images)
    scores["results"] = {
        name: {"path": str(result.path), "kind": result.kind, "box": result.box, "fit_seconds": result.fit_seconds}
        for name, result in zip(names, opened, strict=True)
    }
    write_json(out / COMPARISON_FILE, scores)
    if plot:
        fsc_figure(scores, out / PLOT_FILE)
    return scores


def score_results(opened: Sequence[Result], truth_dir: Path | str, images: int) -> dict[str, Any]:
    """The scores of each result's own method, at the smallest box."""
    if not opened:
        raise InputError("there is nothing to compare; give at least one NAME=PATH")
    smallest = min(opened, key=lambda result: result.box)
    extent = smallest.box * smallest.pixel_size_angstrom
    sources: list[VolumeSource] = []
    for result in opened:
        own = result.box * result.pixel_size_angstrom
        if abs(own - extent) > 0.01 * extent:
            raise InputError(
                f"{result.path}: its volumes span {own:.1f} A, those of {smallest.path} {extent:.1f} A; bring them to "
                "one box"
            )
        source = result.sources[0]
        sources.append(source if result.box == smallest.box else source.cropped(smallest.box))
    counts = {result.particles: result.path for result in opened}
    if len(counts) > 1:
        (some, here), (others, there) = list(counts.items())[:2]
        raise InputError(f"{here} is of {some} particles, {there} of {others}; compare results of the same stack")
    truth = load_truth(truth_dir, smallest.box, smallest.pixel_size_angstrom, next(iter(counts)))
    scores = evaluate_sources(sources, truth, images)
    del scores["cryoformer_over_consensus"]
    return scores


def table_of(scores: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per method: areas under the FSC and resolutions, per image and per state, and scores of the latents.

    Several coordinates have a column each beside the R2 of the worst one; compositions have two.
    """
    columns = _latent_columns(scores["settings"])
    rows = []
    for name, source in scores["sources"].items():
        row: dict[str, Any] = {"name": name}
        for mask in ("moving", "molecule", "given"):
            if mask in source["per_image"]:
                row[f"{mask} AUC"] = source["per_image"][mask]["auc_mean"]
                row[f"{mask} AUC, states"] = source["per_state"][mask]["auc_mean"]
                row[f"{mask} A, states"] = source["per_state"][mask]["resolution_angstrom_mean"]
        for column, place in columns.items():
            row[column] = _look_up(source["latents"], place)
        row["fit s"] = scores.get("results", {}).get(name, {}).get("fit_seconds")
        rows.append(row)
    return rows


def _latent_columns(settings: dict[str, Any]) -> dict[str, tuple[str | int, ...]]:
    """Columns of the latents' scores, and where their values stand in what is said of the latents."""
    columns: dict[str, tuple[str | int, ...]] = {"R2": ("knn_r2",)}
    for number in range(settings["coordinates"] if settings["coordinates"] > 1 else 0):
        columns[f"R2 of t{number + 1}"] = ("coordinates", number, "knn_r2")
    if settings["compositions"] > 1:
        columns["class accuracy"] = ("classes", "knn_balanced_accuracy")
        columns["class ARI"] = ("classes", "kmeans_rand")
    return columns


def _look_up(entry: Any, place: tuple[str | int, ...]) -> Any:
    """What stands at a place of nested results; None where there is nothing."""
    for key in place:
        if entry is None:
            return None
        entry = entry[key]
    return entry


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table; what a method does not say is a dash."""
    columns = list(rows[0])
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [[_cell(column, row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return (
        f"{value:.0f}"
        if column == "fit s"
        else f"{value:.2f}"
        if " A" in column and "AUC" not in column
        else f"{value:.3f}"
    )
