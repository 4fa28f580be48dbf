"""The figures of free energies: F with its interval, and how many particles each well holds."""

from pathlib import Path

import numpy as np

from cryoformer.assess.canvas import BLUE, GREY, VERMILION, new_figure, save
from cryoformer.states.free_energy import FreeEnergy

# Of a plane, F is drawn up to here, in kT.
HIGHEST = 6.0


def free_energy_figure(found: FreeEnergy, path: Path) -> Path:
    """Above: F with its 95 % interval, wells and passes. Below: where the particles are.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure = new_figure(6.4, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1.0))
    upper.fill_between(found.along, found.low, found.high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")
    upper.plot(found.along, found.energy, color=BLUE, linewidth=1.6, label="free energy")
    for number, well in enumerate(found.wells, start=1):
        place, share = (found.along[well.place], found.energy[well.place]), well.population
        upper.plot(*place, "o", color=VERMILION, markersize=5)
        text = f"{number}: {100 * share.value:.0f} % ({100 * share.low:.0f}-{100 * share.high:.0f})"
        side = "left" if place[0] < 0.15 else "right" if place[0] > 0.85 else "center"
        upper.annotate(text, place, (0, -14), textcoords="offset points", ha=side, fontsize=8, color=VERMILION)
    for barrier in found.barriers:
        for panel in (upper, lower):
            panel.axvline(found.along[barrier.place], color=GREY, linewidth=0.8, linestyle=":")
    top = float(found.high.max())
    upper.set(ylabel="free energy / kT", ylim=(min(float(found.low.min()), 0.0) - 0.16 * top - 0.2, 1.05 * top + 0.1))
    upper.legend(fontsize=8, frameon=False, loc="upper center", ncols=2)
    lower.bar(found.along, found.populations, width=found.sizes, color=GREY, alpha=0.6, linewidth=0)
    typical, height = found.uncertainty[0], 0.92 * found.populations.max()
    lower.errorbar(0.5, height, xerr=typical, color="black", capsize=3, linewidth=1)
    lower.annotate("± uncertainty of one particle", (0.5 + typical, height), (6, -3), textcoords="offset points",
                   fontsize=8)  # fmt: skip
    lower.set(xlabel="place along the path (by change of the density)", ylabel="particles", xlim=(0, 1))
    for panel in (upper, lower):
        panel.tick_params(labelsize=8)
        for edge in ("right", "top"):
            panel.spines[edge].set_visible(False)
    return save(figure, path)


def plane_figure(found: FreeEnergy, path: Path) -> Path:
    """Left: F with the wells and the passes between them. Right: how far the 95 % interval reaches to either side.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure = new_figure(9.0, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    half = (found.high - found.low) / 2
    shown = ((found.energy, "free energy / kT", "viridis"), (half, "half of the 95 % interval / kT", "magma"))
    # Where next to nobody is, F is what its smoothness makes of it.
    empty = found.energy > HIGHEST
    for panel, (values, title, colours) in zip(panels, shown, strict=True):
        grid = np.where(empty, np.nan, values).reshape(found.shape).T
        picture = panel.imshow(grid, origin="lower", extent=(0, 1, 0, 1), cmap=colours, vmin=0)
        figure.colorbar(picture, ax=panel, shrink=0.85, label=title).ax.tick_params(labelsize=8)
        panel.set(xlabel="first coordinate", facecolor="0.93")
        panel.tick_params(labelsize=8)
    panels[0].set(ylabel="second coordinate")
    axes = [np.linspace(0.0, 1.0, count) for count in found.shape]
    levels = np.arange(1.0, HIGHEST + 0.5)
    panels[0].contour(*axes, found.energy.reshape(found.shape).T, levels=levels, colors="white", linewidths=0.6)
    for barrier in found.barriers:
        panels[0].plot(*found.positions[barrier.place], "x", color="white", markersize=6, markeredgewidth=1.5)
    for number, well in enumerate(found.wells, start=1):
        place, share = found.positions[well.place], well.population
        panels[0].plot(*place, "o", color=VERMILION, markersize=5, markeredgecolor="white", markeredgewidth=0.8)
        text = f"{number}: {100 * share.value:.0f} % ({100 * share.low:.0f}-{100 * share.high:.0f})"
        side = "left" if place[0] < 0.25 else "right" if place[0] > 0.75 else "center"
        below = place[1] > 0.9
        panels[0].annotate(text, place, (0, -14 if below else 7), textcoords="offset points", ha=side, fontsize=8,
                           bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1})  # fmt: skip
    return save(figure, path)
