"""Plots of a run: FSC curves, latent landscape, training curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer.explore.canvas import BLACK, BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, VERMILION, new_figure, save

SOURCE_STYLES = {
    "cryoformer": ("CryoFormer", VERMILION, "-", 2.2),
    "subspace": ("linear subspace", BLUE, "-", 1.6),
    "consensus": ("consensus", BLACK, "-", 1.6),
    "noise_free_mean": ("noise-free mean of the true states", GREEN, "--", 1.4),
    "mask_alone": ("mask alone", GREY, ":", 1.4),
}
"""Label, colour, line and width of the sources that every evaluation has."""
MASK_TITLES = {"molecule": "whole molecule", "moving": "moving region"}
MOST_POINTS = 20_000


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
        panel.axhline(settings["fsc_threshold"], color=GREY, linewidth=0.8)
        panel.set(title=MASK_TITLES.get(mask, mask), xlabel="spatial frequency (1/Å)", ylim=(-0.15, 1.03))
        panel.set_xlim(0.0, 1.0 / settings["nyquist_angstrom"])
        panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel(f"FSC to truth, mean of {settings['images']} images")
    return save(figure, path)


def landscape_figure(
    latents: Float[np.ndarray, "n k"],
    path: Path,
    truth: Float[np.ndarray, " n"] | None = None,
    covariance: Float[np.ndarray, "n k k"] | None = None,
    trajectory: np.ndarray | None = None,
    centres: np.ndarray | None = None,
) -> Path:
    """Latents along their first two principal components, coloured by truth or by how many particles there are.

    ``trajectory`` and ``centres`` are indices of particles: a line, and numbered markers. ``covariance`` draws the
    median uncertainty of a particle (one standard deviation) as an ellipse in the corner.
    """
    centred = np.asarray(latents, dtype=np.float64) - latents.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes, share = axes[:, ::-1], values[::-1] / max(values.sum(), 1e-300)
    flat = centred @ axes[:, :2]
    figure = new_figure(5.6, 4.6)
    panel = figure.subplots()
    if flat.shape[1] == 1:
        panel.hist(flat[:, 0], bins=60, color=BLUE)
        panel.set(xlabel="latent", ylabel="particles")
        return save(figure, path)
    _draw_cloud(figure, panel, flat, truth)
    if trajectory is not None:
        panel.plot(*flat[trajectory].T, "-o", color=VERMILION, markersize=4, linewidth=1.5, label="trajectory shown")
    if centres is not None:
        panel.plot(*flat[centres].T, "s", color="white", markeredgecolor=BLACK, markersize=11, label="cluster centres")
        for number, centre in enumerate(centres, start=1):
            panel.annotate(str(number), flat[centre], ha="center", va="center", fontsize=8)
    if covariance is not None:
        _draw_uncertainty(panel, flat, np.median(covariance, axis=0), axes[:, :2])
    panel.set(xlabel=f"component 1 ({share[0]:.0%} of variance)", ylabel=f"component 2 ({share[1]:.0%} of variance)")
    if trajectory is not None or centres is not None:
        panel.legend(fontsize=8, loc="upper right", framealpha=0.9)
    return save(figure, path)


def _draw_cloud(figure: Any, panel: Any, flat: np.ndarray, truth: np.ndarray | None) -> None:
    # A few far outliers must not shrink the cloud to a dot.
    low, high = np.percentile(flat, [0.1, 99.9], axis=0)
    margin = 0.08 * (high - low) + 1e-9
    panel.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    if truth is None:
        extent = (low[0] - margin[0], high[0] + margin[0], low[1] - margin[1], high[1] + margin[1])
        cloud = panel.hexbin(*flat.T, gridsize=45, extent=extent, bins="log", mincnt=1, cmap="cividis", linewidths=0.1)
        figure.colorbar(cloud, label="particles")
        return
    some = np.arange(0, len(flat), -(-len(flat) // MOST_POINTS))
    cloud = panel.scatter(*flat[some].T, c=truth[some], s=3, cmap="viridis", linewidths=0, rasterized=True)
    figure.colorbar(cloud, label="true motion coordinate t")


def _draw_uncertainty(panel: Any, flat: np.ndarray, covariance: np.ndarray, axes: np.ndarray) -> None:
    from matplotlib.patches import Ellipse

    projected = axes.T @ covariance @ axes
    values, vectors = np.linalg.eigh(projected)
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    radii = np.sqrt(values.clip(0.0))
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    corner = (left + radii[1] + 0.04 * (right - left), bottom + radii[1] + 0.07 * (top - bottom))
    panel.add_patch(Ellipse(corner, 2 * radii[1], 2 * radii[0], angle=angle, fill=False, color=BLACK, linewidth=1.3))
    panel.annotate("uncertainty of a particle (1 sd)", (left + 0.02 * (right - left), bottom), (0, 4), fontsize=7,
                   textcoords="offset points")  # fmt: skip


def training_figure(metrics: Sequence[dict[str, Any]], path: Path) -> Path:
    """Loss, conditioning and speed over the minutes of the run, one colour per stage.

    Losses of different stages are not comparable: they are computed at different resolutions.
    """
    panels = [("loss", "loss"), ("conditioning", "conditioning"), ("images_per_second", "images per second")]
    panels = [panel for panel in panels if any(_number(entry.get(panel[0])) for entry in metrics)]
    stages = list(dict.fromkeys(str(entry.get("stage", "")) for entry in metrics))
    figure = new_figure(3.9 * max(len(panels), 1), 3.1)
    for axis, (key, title) in zip(figure.subplots(1, max(len(panels), 1), squeeze=False)[0], panels, strict=False):
        for number, stage in enumerate(stages):
            entries = [e for e in metrics if str(e.get("stage", "")) == stage and _number(e.get(key))]
            minutes = [e["elapsed_s"] / 60.0 if _number(e.get("elapsed_s")) else i for i, e in enumerate(entries)]
            values = [e[key] for e in entries]
            style = "o-" if len(entries) < 40 else "-"
            colour = PALETTE[number % len(PALETTE)]
            axis.plot(
                minutes, values, style, color=colour, markersize=3, linewidth=1.3, label=stage if values else None
            )
        axis.set(title=title, xlabel="minutes")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7)
    return save(figure, path)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
