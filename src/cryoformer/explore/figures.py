"""Plots of a run: latent landscape, half maps, training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer.assess.canvas import (
    BLACK,
    BLUE,
    GREEN,
    PALETTE,
    PURPLE,
    SKY,
    VERMILION,
    draw_threshold,
    new_figure,
    save,
    unsure_colours,
)
from cryoformer.assess.latent_space import PrincipalCoordinates
from cryoformer.explore.landscape import Landscape
from cryoformer.imaging.fsc import resolution

MOST_POINTS = 20_000
LARGEST_ENERGY = 8.0
"""Colours end at so many kT: beyond, a bin holds a particle or none."""


def landscape_figure(
    principal: PrincipalCoordinates,
    path: Path,
    energy: Landscape | None = None,
    truth: Float[np.ndarray, " n"] | None = None,
    covariance: Float[np.ndarray, "n k k"] | None = None,
    lines: Mapping[str, Float[np.ndarray, "m q"]] | None = None,
    centres: Float[np.ndarray, "c q"] | None = None,
    truth_label: str = "true motion coordinate t",
) -> Path:
    """The latents' first two principal components: energy, its uncertainty, and the particles coloured by truth.

    ``lines`` (by name) and ``centres`` are drawn over the energy, in principal coordinates. ``covariance`` draws the
    median uncertainty of a particle (one standard deviation) as an ellipse in the corner.
    """
    flat, share = principal.coordinates[:, :2], principal.explained
    if energy is None:
        figure = new_figure(5.6, 3.6)
        panel = figure.subplots()
        panel.hist(flat[:, 0], bins=60, color=BLUE)
        panel.set(xlabel="latent", ylabel="particles")
        return save(figure, path)
    figure = new_figure(4.7 * (3 if truth is not None else 2), 4.3)
    panels = figure.subplots(1, 3 if truth is not None else 2)
    extent = (energy.edges[0][0], energy.edges[0][-1], energy.edges[1][0], energy.edges[1][-1])
    for panel, values, title, colours in (
        (panels[0], energy.energy, "−log p (kT)", "cividis_r"),
        (panels[1], energy.deviation, "its standard deviation (kT)", "Greys"),
    ):
        limit = min(float(np.nanmax(values)), LARGEST_ENERGY if panel is panels[0] else 1.0)
        image = panel.imshow(values, extent=extent, origin="lower", aspect="auto", cmap=colours, vmin=0, vmax=limit)
        figure.colorbar(image, label=title, extend="max" if np.nanmax(values) > limit else "neither")
    _draw_contours(panels[0], energy)
    for (name, line), colour in zip((lines or {}).items(), [VERMILION, GREEN, PURPLE, SKY, BLACK], strict=False):
        panels[0].plot(*line[:, :2].T, "-o", color=colour, markersize=3, linewidth=1.5, label=name.replace("_", " "))
    if centres is not None:
        panels[0].plot(
            *centres[:, :2].T, "s", color="white", markeredgecolor=BLACK, markersize=10, label="cluster centres"
        )
        for number, centre in enumerate(centres, start=1):
            panels[0].annotate(str(number), centre[:2], ha="center", va="center", fontsize=7)
    if truth is not None:
        some = np.arange(0, len(flat), -(-len(flat) // MOST_POINTS))
        cloud = panels[2].scatter(*flat[some].T, c=truth[some], s=3, cmap="viridis", linewidths=0, rasterized=True)
        figure.colorbar(cloud, label=truth_label)
    for panel in panels:
        panel.set(xlim=extent[:2], ylim=extent[2:], xlabel=f"component 1 ({share[0]:.0%} of variance)")
    panels[0].set_ylabel(f"component 2 ({share[1]:.0%} of variance)")
    if covariance is not None:
        _draw_uncertainty(panels[0], np.median(covariance, axis=0), principal.components[:2].T)
    if lines or centres is not None:
        panels[0].legend(fontsize=7, loc="upper right", framealpha=0.9)
    return save(figure, path)


def _draw_contours(panel: Any, energy: Landscape) -> None:
    x, y = ((edges[1:] + edges[:-1]) / 2.0 for edges in energy.edges)
    levels = np.arange(1.0, min(float(np.nanmax(energy.energy)), LARGEST_ENERGY), 1.0)
    if len(levels):
        panel.contour(x, y, energy.energy, levels=levels, colors="white", linewidths=0.5)


def _draw_uncertainty(panel: Any, covariance: np.ndarray, axes: np.ndarray) -> None:
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


def half_map_figure(
    fsc: Float[np.ndarray, " s"],
    pixel_size_angstrom: float,
    local: Float[np.ndarray, "d d d"],
    uncertainty: Float[np.ndarray, "d d d"],
    density: Float[np.ndarray, "d d d"],
    level: float,
    shown: tuple[int, int],
    path: Path,
) -> Path:
    """Half-map FSC, and one slice (axis, place) of the local resolution and of the uncertainty within the molecule."""
    figure = new_figure(13.0, 3.9)
    panels = figure.subplots(1, 3)
    frequency = np.arange(len(fsc)) / (local.shape[0] * pixel_size_angstrom)
    panels[0].plot(frequency[1:], fsc[1:], color=BLUE, linewidth=1.8)
    for threshold in (0.5, 0.143):
        draw_threshold(panels[0], threshold)
    reached = resolution(fsc, local.shape[0], pixel_size_angstrom, 0.143)
    panels[0].axvline(1.0 / reached, color=BLUE, linewidth=0.8, linestyle=":")
    panels[0].annotate(f"{reached:.3g} Å", (1.0 / reached, 1.0), (-3, -2), textcoords="offset points", fontsize=8,
                       ha="right", va="top", color=BLUE)  # fmt: skip
    panels[0].set(xlabel="spatial frequency (1/Å)", ylabel="FSC of the half maps", ylim=(-0.1, 1.03))
    panels[0].grid(alpha=0.25)
    axis, place = shown
    slices = [np.take(volume, place, axis=axis) for volume in (density, local, uncertainty / max(level, 1e-12))]
    inside = slices[0] > 0.5 * level
    for panel, values, title, colours in (
        (panels[1], slices[1], "local resolution (Å)", "viridis"),
        (panels[2], slices[2], "uncertainty / contour level", unsure_colours()),
    ):
        # The viewer's colours and range, so that both show the same.
        whole = (local if panel is panels[1] else uncertainty / max(level, 1e-12))[density > level]
        low, high = np.percentile(whole, [1.0, 99.0]) if whole.size else (0.0, 1.0)
        image = panel.imshow(
            np.where(inside, values, np.nan),
            origin="lower",
            cmap=colours,
            vmin=low if panel is panels[1] else 0.0,
            vmax=max(high, low + 1e-12),
        )
        panel.contour(slices[0], levels=[level], colors="black", linewidths=0.6)
        panel.set(xticks=[], yticks=[], title=f"slice {'zyx'[axis]} = {place}")
        figure.colorbar(image, label=title)
    return save(figure, path)


def outlier_figure(scores: Float[np.ndarray, " n"], limit: float, path: Path) -> Path:
    """How badly particles fit: a histogram beside what is expected of good ones, N(0, 1), and the limit."""
    figure = new_figure(6.4, 2.9)
    panel = figure.subplots()
    low, high = min(-4.0, float(scores.min())), max(limit + 4.0, float(np.percentile(scores, 99.5)))
    edges = np.linspace(low, high, 81)
    counts, _, _ = panel.hist(scores.clip(low, high), bins=edges.tolist(), color=BLUE, label="particles")
    normal = np.exp(-(edges**2) / 2)
    panel.plot(edges, normal * counts[edges[:-1] < 2].max() / normal.max(), color=BLACK, linewidth=1.0,
               label="good particles, as expected")  # fmt: skip
    panel.axvline(limit, color=VERMILION, linewidth=1.3, label=f"limit of --drop-outliers ({limit:g})")
    panel.set(xlabel="outlier score (standard deviations)", ylabel="particles", yscale="symlog", ylim=(0, None))
    panel.legend(fontsize=7)
    return save(figure, path)


def surfaces_figure(pictures: Mapping[str, np.ndarray], path: Path, columns: int = 4) -> Path:
    """Rendered surfaces side by side, with their titles."""
    rows = -(-len(pictures) // columns)
    figure = new_figure(2.8 * min(columns, len(pictures)), 3.0 * rows)
    panels = figure.subplots(rows, min(columns, len(pictures)), squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, (title, picture) in zip(panels, pictures.items(), strict=False):
        panel.imshow(picture)
        panel.set_title(title, fontsize=9)
    return save(figure, path)


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
