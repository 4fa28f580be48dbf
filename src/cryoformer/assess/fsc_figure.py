"""FSC curves of every method to the truth, as a picture."""

from pathlib import Path
from typing import Any

import numpy as np

from cryoformer.assess.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALETTE,
    PURPLE,
    VERMILION,
    draw_threshold,
    new_figure,
    save,
)

SOURCE_STYLES = {
    "cryoformer": ("CryoFormer", VERMILION, "-", 2.2),
    "subspace": ("linear subspace", BLUE, "-", 1.6),
    "consensus": ("consensus", BLACK, "-", 1.6),
    "noise_free_mean": ("noise-free mean of the true states", GREEN, "--", 1.4),
    "mask_alone": ("mask alone", GREY, ":", 1.4),
}
"""Label, colour, line and width of the sources that every evaluation has."""
MASK_TITLES = {"molecule": "whole molecule", "given": "mask of the truth", "moving": "moving region"}


def fsc_figure(evaluation: dict[str, Any], path: Path) -> Path:
    """Mean per-image FSC to the true states, one panel per mask, one curve per source; PNG at ``path``."""
    settings = evaluation["settings"]
    masks = list(settings["masks"])
    figure = new_figure(5.2 * len(masks), 4.6)
    panels = figure.subplots(1, len(masks), sharey=True, squeeze=False)[0]
    for panel, mask in zip(panels, masks, strict=True):
        others = iter([ORANGE, PURPLE, *PALETTE])
        for name, result in evaluation["sources"].items():
            label, colour, line, width = SOURCE_STYLES.get(name) or (name, next(others), "-", 1.6)
            scores = result["per_image"][mask]
            curve = np.array(scores["fsc_mean_curve"])
            frequency = np.arange(len(curve)) / (settings["box"] * settings["pixel_size_angstrom"])
            text = f"{label} (AUC {scores['auc_mean']:.3f})"
            panel.plot(frequency[1:], curve[1:], line, color=colour, linewidth=width, label=text)
        draw_threshold(panel, settings["fsc_threshold"])
        panel.set(title=MASK_TITLES.get(mask, mask), xlabel="spatial frequency (1/Å)", ylim=(-0.15, 1.03))
        panel.set_xlim(0.0, 1.0 / settings["nyquist_angstrom"])
        panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel(f"FSC to truth, mean of {settings['images']} images")
    return save(figure, path)
