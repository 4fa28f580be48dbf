"""Plots of an experiment's result, from its JSON: FSC curves of every method, and scores beside time."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoformer.assess.canvas import BLACK, GREY, PALETTE, new_figure, save
from cryoformer.files import atomic_path
from cryoformer_experiments.table import LATENT_SCORES, REFERENCE_NAMES, is_reference, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MASK_TITLES = {"molecule": "whole molecule", "moving": "moving region"}
PALETTE_COLOURS = 128
REFERENCE_STYLES = {"noise_free_mean": "--", "mask_alone": ":"}


def draw_plots(result: dict[str, Any], folder: Path) -> list[Path]:
    """``NAME_fsc.png`` and, where there are several methods to compare, ``NAME_scores.png``."""
    name = result["experiment"]
    if result["kind"] == "halves":
        return [_half_map_plot(result, folder / f"{name}_fsc.png")]
    return [_sample_plot(result, folder / f"{name}_fsc.png"), _score_plot(result, folder / f"{name}_scores.png")]


def _sample_plot(result: dict[str, Any], path: Path) -> Path:
    """One row a stack, one column a mask; mean FSC over the samples."""
    stacks = result["stacks"]
    masks = [mask for mask in MASK_TITLES if any(mask in found["settings"]["masks"] for found in stacks.values())]
    panels = _panels(len(stacks), len(masks), 2.8)
    for row, (stack, found) in zip(panels, stacks.items(), strict=True):
        for axes, mask in zip(row, masks, strict=True):
            colours = _colours()
            for name, source in found["sources"].items():
                samples = source["samples"].get(mask)
                if samples is None:
                    continue
                style = REFERENCE_STYLES.get(name)
                colour = GREY if style else next(colours)
                label = found["labels"].get(name) or REFERENCE_NAMES.get(name, name)
                _curve(axes, samples["fsc"], found["settings"], label, color=colour, linestyle=style or "-")
            _finish(axes, f"{stack}: {MASK_TITLES[mask]}", found["settings"], (0.5,))
        row[0].set_ylabel("FSC to the truth")
    return _with_legend(panels, path)


def _half_map_plot(result: dict[str, Any], path: Path) -> Path:
    """One row a stack: between the halves on the left, to the truth on the right."""
    panels = _panels(len(result["stacks"]), 2, 3.4)
    for row, (stack, found) in zip(panels, result["stacks"].items(), strict=True):
        colours = _colours()
        for name, source in found["sources"].items():
            colour, label, curves = next(colours), found["labels"][name], source["curves"]
            settings = found["settings"]
            _curve(row[0], curves["half_maps"], settings, label, color=colour)
            _curve(row[0], curves["half_maps_unmasked"], settings, f"{label}, no mask", color=colour, linestyle=":")
            _curve(row[1], curves["truth"], settings, label, color=colour)
            _curve(row[1], curves["expected"], settings, f"{label}, as the halves promise", color=colour, linestyle=":")
        _finish(row[0], f"{stack}: between halves", settings, (0.143,))
        _finish(row[1], f"{stack}: to the truth", settings, (0.5,))
        row[0].set_ylabel("FSC")
        for axes in row:
            axes.legend(fontsize=7, frameon=False, loc="lower left")
    return _save(panels[0][0].figure, path)


def _score_plot(result: dict[str, Any], path: Path) -> Path:
    """Bars: area under the FSC of what moves (or of the molecule), R2 and seconds, one row a stack."""
    stacks = {stack: [row for row in rows_of(result, stack) if not is_reference(row)] for stack in result["stacks"]}
    every = list(dict.fromkeys(column for rows in stacks.values() for column in rows[0]))
    of_latents = [column for column in every if column.startswith(LATENT_SCORES)]
    columns = [column for column in ("moving AUC", *of_latents, "molecule AUC", "s") if column in every]
    most = max(len(rows) for rows in stacks.values())
    panels = _panels(len(stacks), len(columns), 0.8 + 0.28 * most)
    for line, (stack, rows) in zip(panels, stacks.items(), strict=True):
        for axes, column in zip(line, columns, strict=True):
            values = [row.get(column) or 0.0 for row in rows]
            colours = [colour for colour, _ in zip(_colours(), rows, strict=False)]
            axes.barh([row["method"] for row in rows], values, color=colours)
            axes.invert_yaxis()
            axes.set_title(f"{stack}: {'seconds' if column == 's' else column}", fontsize=9)
            axes.tick_params(labelsize=8, labelleft=axes is line[0])
            axes.locator_params(axis="x", nbins=5)
            axes.grid(axis="x", alpha=0.25)
    return _save(panels[0][0].figure, path)


def _save(figure: "Figure", path: Path) -> Path:
    """As PNG with a palette of its own, a third of the size: these pictures are lines and bars."""
    from PIL import Image  # comes with matplotlib

    save(figure, path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(PALETTE_COLOURS, dither=Image.Dither.NONE)
    with atomic_path(path) as temporary:
        small.save(temporary, format="PNG", optimize=True)
    return path


def _panels(rows: int, columns: int, height: float) -> Any:
    return new_figure(3.6 * columns, height * rows).subplots(rows, columns, squeeze=False)


def _curve(axes: "Axes", curve: list[float], settings: dict[str, Any], label: str, **style: Any) -> None:
    extent = settings["box"] * settings["pixel_size_angstrom"]
    # Shell 0 is the sum of the density, which says nothing.
    axes.plot([shell / extent for shell in range(1, len(curve))], curve[1:], label=label, linewidth=1.5, **style)


def _finish(axes: "Axes", title: str, settings: dict[str, Any], thresholds: tuple[float, ...]) -> None:
    for threshold in thresholds:
        axes.axhline(threshold, color=GREY, linewidth=0.7)
    axes.set_title(title, fontsize=9)
    axes.set_xlim(0.0, 0.5 / settings["pixel_size_angstrom"])
    axes.set_ylim(-0.1, 1.03)
    axes.set_xlabel("spatial frequency (1/Å)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def _with_legend(panels: Any, path: Path) -> Path:
    """One legend for all panels, below them."""
    figure = panels[0][0].figure
    entries = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return _save(figure, path)


def _colours() -> Iterator[str]:
    """Those that all kinds of colour vision tell apart; ours first."""
    first = [PALETTE[1], PALETTE[0], *PALETTE[2:6], BLACK]
    more = ["#882255", "#44AA99", "#999933", "#332288", "#AA4499", "#DDCC77", "#117733"]
    yield from [*first, *more]
    while True:
        yield GREY
