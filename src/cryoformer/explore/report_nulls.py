"""What ``validate`` has found, for the report: a sentence per test, and the run beside what chance gives."""

from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.assess.canvas import GREY, VERMILION, new_figure, save

TITLES = {
    "null_of_structure": "Is there a structure?",
    "poses": "Are the poses good enough?",
    "null_of_motion": "Does something move?",
    "split_images": "Are the latents as certain as they claim? (split images)",
    "calibration": "Are the latents as certain as they claim? (known truth)",
    "null_of_network": "Does the network stay quiet where nothing moves?",
    "parts": "Do both halves of the images see the parts move?",
    "null_of_parts": "Are no parts found where nothing moves?",
    "halves": "Do two independent runs agree?",
}
VERDICTS = {"holds": "yes", "fails": "no", "not run": "not done"}


def validation_tests(validation: dict[str, Any]) -> list[dict[str, Any]]:
    """Every test: its question, verdict and sentence, and the numbers behind it as name and value."""
    return [
        {
            "title": TITLES.get(name, name.replace("_", " ")),
            "kind": test["verdict"],
            "verdict": VERDICTS.get(test["verdict"], test["verdict"]),
            "sentence": test.get("sentence", ""),
            "numbers": [
                (key, _short(value)) for key, value in test.items() if key not in ("verdict", "sentence", "format")
            ],
        }
        for name, test in validation.items()
        if isinstance(test, dict) and "verdict" in test
    ]


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} values" if len(value) > 12 else ", ".join(_short(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _measures(validation: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    """What can be drawn: a title, what the nulls gave, and what the particles gave."""
    structure, motion = validation.get("null_of_structure", {}), validation.get("null_of_motion", {})
    found = [
        ("structure: mean FSC of half maps", structure.get("mean_fsc_nulls"), structure.get("mean_fsc")),
        ("motion: information in each dimension", motion.get("information_nulls_largest"), motion.get("information")),
        ("motion: gain of the likelihood per image", motion.get("log_likelihood_gain_nulls"),
         motion.get("log_likelihood_gain")),
    ]  # fmt: skip
    return [
        (title, np.atleast_1d(nulls).tolist(), np.atleast_1d(value).tolist())
        for title, nulls, value in found
        if nulls is not None and value is not None
    ]


def has_nulls(validation: dict[str, Any]) -> bool:
    """Whether there is anything to draw."""
    return bool(_measures(validation))


def nulls_figure(validation: dict[str, Any], path: Path) -> Path:
    """One line per measure: grey, what particles without motion (or structure) give; vermilion, the particles."""
    measures = _measures(validation)
    figure = new_figure(7.6, 0.5 + 0.85 * len(measures))
    panels = figure.subplots(len(measures), 1, squeeze=False)[:, 0]
    for panel, (title, nulls, values) in zip(panels, measures, strict=True):
        panel.axvspan(min(*nulls, 0.0), max(nulls), color=GREY, alpha=0.18, linewidth=0)
        panel.plot(nulls, np.zeros(len(nulls)), "o", color=GREY, markersize=6, label="nothing there (nulls)")
        panel.plot(values, np.zeros(len(values)), "D", color=VERMILION, markersize=7, label="these particles")
        if len(values) > 1:
            for number, value in enumerate(values, start=1):
                panel.annotate(str(number), (value, 0), (0, 7), textcoords="offset points", ha="center", fontsize=7)
        low, high = min(*nulls, *values, 0.0), max(*nulls, *values)
        panel.set(xlim=(low - 0.04 * (high - low), high + 0.04 * (high - low)), ylim=(-1, 1), yticks=[])
        panel.set_title(title, fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
        for side in ("left", "right", "top"):
            panel.spines[side].set_visible(False)
    panels[0].legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
    return save(figure, path)
