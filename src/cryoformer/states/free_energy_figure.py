"""The figure of a free energy: the curve with its interval, and how many particles each well holds."""

from pathlib import Path

from cryoformer.assess.canvas import BLUE, GREY, VERMILION, new_figure, save
from cryoformer.states.free_energy import FreeEnergy


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
    lower.bar(found.along, found.populations, width=found.lengths, color=GREY, alpha=0.6, linewidth=0)
    lower.errorbar(0.5, 0.92 * found.populations.max(), xerr=found.uncertainty, color="black", capsize=3, linewidth=1)
    lower.annotate("± uncertainty of one particle", (0.5 + found.uncertainty, 0.92 * found.populations.max()), (6, -3),
                   textcoords="offset points", fontsize=8)  # fmt: skip
    lower.set(xlabel="place along the path (by change of the density)", ylabel="particles", xlim=(0, 1))
    for panel in (upper, lower):
        panel.tick_params(labelsize=8)
        for edge in ("right", "top"):
            panel.spines[edge].set_visible(False)
    return save(figure, path)
