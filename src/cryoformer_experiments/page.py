"""The page of an experiment, from its JSON: ``python -m cryoformer_experiments.page RESULT.json FOLDER``.

Writes FOLDER/NAME.md and the plots beside it, and nothing that is not in the JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cryoformer.errors import InputError
from cryoformer.files import write_text
from cryoformer_experiments.plots import draw_plots
from cryoformer_experiments.table import first_method, markdown, rows_of, verdict

COLUMNS = {
    "comparison": (
        "`molecule A`, `moving A`: resolution at FSC 0.5 to the truth, of the mean curve over {samples} samples, three "
        "of each state, masked. AUC: area under the FSC per image, {images} images (a perfect map: {perfect:.3f}). R2: "
        "prediction of the true motion from the latents. s: seconds of the fit by its own clock; s/volume: of every "
        "density decoded after it; s in all: of the fit and the {samples} densities. GiB: peak memory of its process. "
        "Bold: best of the methods. Definitions: docs/metrics.md."
    ),
    "halves": (
        "`half maps A`: resolution at FSC 0.143 between two independent halves, corrected for the mask by random "
        "phases. `truth A`: of the mean of the two maps to the truth, at 0.5. `promised - found`: the FSC to the "
        "truth that the FSC between halves promises, sqrt(2 FSC / (1 + FSC)), minus the one found, mean over shells; "
        "above 0, the halves share something beside the molecule. s: seconds of both fits. GiB: peak memory of a "
        "process. Bold: best."
    ),
}
PROMISE = 0.02
"""By how much, on average over shells, the halves may promise too much before the page says so in words."""


def write_page(result: dict[str, Any], folder: Path, plots: bool = True) -> Path:
    """``NAME.md`` and its plots in a folder; the path of the page."""
    path = folder / f"{result['experiment']}.md"
    if plots:
        draw_plots(result, folder)
    write_text(path, page_of(result))
    return path


def page_of(result: dict[str, Any]) -> str:
    """The page as Markdown."""
    lines = [f"# {result['title']}", "", f"Reproduces: {result['reproduces']}", ""]
    if result["departs"]:
        lines += [f"What differs: {result['departs']}", ""]
    lines += [f"Size `{result['size']}`:", "", f"    {result['command']}", ""]
    for stack in result["stacks"]:
        lines += [*_stack_lines(result, stack), ""]
    name = result["experiment"]
    lines += [f"![FSC curves]({name}_fsc.png)", ""]
    if result["kind"] == "comparison":
        lines += [f"![Scores and seconds]({name}_scores.png)", ""]
    lines += [*_small_print(result), ""]
    return "\n".join(lines)


def load_result(path: Path) -> dict[str, Any]:
    """The JSON of a finished experiment.

    Raises:
        InputError: it is none.
    """
    try:
        result: dict[str, Any] = json.loads(path.read_text())
        if result["format"] != 1 or not result["stacks"]:
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the result of an experiment ({error})") from None
    return result


def _stack_lines(result: dict[str, Any], stack: str) -> list[str]:
    found = result["stacks"][stack]
    rows = rows_of(result, stack)
    lines = [f"## {stack}", "", _stack_sentence(result, stack), "", markdown(rows), ""]
    lines.append(verdict(rows, first_method(result, stack)))
    if result["kind"] == "halves":
        lines += [*_promises(found)]
    lines += [f"{found['labels'][n]} failed: {f['failed']}" for n, f in found["fits"].items() if f["failed"]]
    return lines


def _stack_sentence(result: dict[str, Any], stack: str) -> str:
    found = result["stacks"][stack]
    settings, simulated = found["settings"], found["simulation"]
    size = f"{settings['box']} x {settings['box']} pixels at {settings['pixel_size_angstrom']:g} A"
    if simulated is None:
        text = f"{settings['particles']} given images of {size}"
    else:
        models = ", ".join(simulated["models"])
        text = f"{simulated['images']} images of {size}, SNR {simulated['snr']}, simulated from {models}"
    minutes = found["budget_minutes"]
    limit = f"; at most {minutes:g} minutes for methods that train in epochs" if minutes is not None else ""
    return f"{text}{limit}."


def _promises(found: dict[str, Any]) -> list[str]:
    """Which methods' half maps promise more than the truth confirms."""
    return [
        f"The half maps of {found['labels'][name]} promise more than the truth confirms: FSC to the truth lower by "
        f"{source['promised_too_much']:.3f} on average."
        for name, source in found["sources"].items()
        if source["promised_too_much"] > PROMISE
    ]


def _small_print(result: dict[str, Any]) -> list[str]:
    first = next(iter(result["stacks"].values()))
    facts: dict[str, Any] = {}
    if result["kind"] == "comparison":
        samples = next(source["samples"]["samples"] for source in first["sources"].values())
        settings = first["settings"]
        facts = {"samples": samples, "images": settings["images"], "perfect": settings["auc_of_a_perfect_map"]}
    machine, versions = result["machine"], result["versions"]
    lines = [COLUMNS[result["kind"]].format(**facts), ""]
    lines += [f"Not fitted: {name}, {reason}." for name, reason in result["left_out"].items()]
    lines.append(
        f"Seed {result['seed']}, {machine['processor']}, {machine['cores']} cores, threads: {result['threads']}; "
        + ", ".join(f"{name} {value}" for name, value in versions.items())
        + ". Every command, figure and curve is in the JSON of this result."
    )
    return lines


if __name__ == "__main__":
    print(write_page(load_result(Path(sys.argv[1])), Path(sys.argv[2])))
