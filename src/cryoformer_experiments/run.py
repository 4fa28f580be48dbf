"""An experiment from its plan to its result: stacks, fits one after the other, scores, tables and plots."""

import logging
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.assess.canvas import new_figure
from cryoformer.errors import InputError
from cryoformer.files import read_json, write_json
from cryoformer_experiments.circumstances import circumstances, shown, shown_message
from cryoformer_experiments.comparison import score_fit
from cryoformer_experiments.fits import Fit, fit_of, run_fit
from cryoformer_experiments.independent_halves import score_halves
from cryoformer_experiments.page import write_page
from cryoformer_experiments.plan import Options, Plan, Stack, make_plan, sets_the_budget
from cryoformer_experiments.recipe import EPOCH_METHODS, Experiment, Method, load_experiment
from cryoformer_experiments.workplace import make_stack, open_workplace

logger = logging.getLogger(__name__)
Fitted = dict[str, tuple[Fit, ...]]


def benchmark(name: str, options: Options) -> Path:
    """Run an experiment of the package, or what is missing of it; the path of its table.

    Raises:
        InputError: something that was asked for cannot be done, or the first method failed.
    """
    return run_experiment(load_experiment(name), options)


def run_experiment(experiment: Experiment, options: Options) -> Path:
    """As :func:`benchmark`, for any recipe."""
    plan = make_plan(experiment, options)
    new_figure(1.0, 1.0)  # Without the library for plots: an error now, not after hours.
    open_workplace(plan)
    result = {
        "format": 1,
        "experiment": experiment.name,
        "kind": experiment.kind,
        "title": experiment.title,
        "reproduces": experiment.reproduces,
        "departs": experiment.departs,
        "size": options.size,
        "seed": options.seed,
        **circumstances(plan),
        "stacks": {stack.name: _run_stack(plan, stack) for stack in plan.stacks},
        "left_out": plan.left_out,
    }
    write_json(options.out / f"{experiment.name}.json", result)
    return write_page(result, options.out)


def _run_stack(plan: Plan, stack: Stack) -> dict[str, Any]:
    """Everything about one stack."""
    make_stack(stack, sys.stderr.isatty())
    halves = (1, 2) if plan.experiment.kind == "halves" else (None,)
    minutes, fitted, records = plan.minutes, {}, {}
    for method in plan.methods:
        if minutes is None and method.method in EPOCH_METHODS and method != sets_the_budget(plan):
            raise InputError(
                f"{method.name}: its time budget is what {plan.experiment.methods[0].name} takes, which is not among "
                "the methods; give --minutes"
            )
        fits = tuple(fit_of(plan, stack, method, half) for half in halves)
        records[method.name] = [run_fit(plan, fit, minutes) for fit in fits]
        failed = next((record["said"] for record in records[method.name] if record["exit_code"] != 0), None)
        if failed is None:
            fitted[method.name] = fits
        if method == sets_the_budget(plan):
            if failed is not None:
                raise InputError(f"{method.name}, whose time is the budget of the others, failed: {failed}")
            minutes = budget(plan, stack, method, records[method.name])
    if not fitted:
        raise InputError(f"every method failed on {stack.name}; see the .log files in {plan.options.out / stack.name}")
    scores = {name: _score(plan, fits) for name, fits in fitted.items()}
    return {
        "simulation": _simulation(stack),
        "budget_minutes": minutes,
        "labels": {method.name: plan.label(method.name) for method in plan.methods},
        "fits": {method.name: _fit_facts(plan, method, records[method.name]) for method in plan.methods},
        **_gathered(plan, scores),
    }


def budget(plan: Plan, stack: Stack, method: Method, records: list[dict[str, Any]]) -> float:
    """Minutes that the method took by its own clock, rounded up; of two halves, the longer."""
    from cryoformer.assess.results import open_result

    halves = (1, 2) if len(records) == 2 else (None,)
    seconds = [open_result(fit_of(plan, stack, method, half).folder).fit_seconds or 0.0 for half in halves]
    return math.ceil(100.0 * max(seconds) / 60.0) / 100.0


def _score(plan: Plan, fits: tuple[Fit, ...]) -> dict[str, Any]:
    if len(fits) == 2:
        with np.load(fits[0].stack.truth / "truth.npz", allow_pickle=False) as truth:
            particles = len(truth["t"])
        return score_halves((fits[0], fits[1]), particles, plan.options.seed)
    return score_fit(fits[0], plan.size.images)


def _gathered(plan: Plan, scores: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Scores of all methods of a stack; the references, which every fit has been scored with, once."""
    first = next(iter(scores.values()))
    times = {
        name: {key: found[key] for key in ("fit_seconds", "images_per_second", "found")}
        for name, found in scores.items()
    }
    if plan.experiment.kind == "halves":
        sources = {name: {"curves": found["curves"], **found["scores"]} for name, found in scores.items()}
    else:
        references = {name: value for name, value in first["sources"].items() if name not in scores}
        sources = {name: found["sources"][name] for name, found in scores.items()} | references
    return {"settings": first["settings"], "training": times, "sources": sources}


def _fit_facts(plan: Plan, method: Method, records: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [record["process_seconds"] for record in records]
    peaks = [record["peak_memory_gib"] for record in records if record["peak_memory_gib"] is not None]
    return {
        "commands": [shown(plan, ["cryoformer", *record["arguments"]]) for record in records],
        "process_seconds": seconds,
        "peak_memory_gib": max(peaks, default=None),
        "resumed": any(record["resumed"] for record in records),
        "failed": next((shown_message(plan, record["said"]) for record in records if record["exit_code"] != 0), None),
    }


def _simulation(stack: Stack) -> dict[str, Any] | None:
    if stack.config is None:
        return None
    settings: dict[str, Any] = read_json(stack.truth / "simulation.json")["settings"]
    return settings | {"models": [Path(model).name for model in settings["models"]]}
