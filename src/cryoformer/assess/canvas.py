"""Drawing without a display: matplotlib figures that are only ever written to PNG files.

Figures are made directly, without pyplot, so no window system is touched and nothing is kept between figures.
Colours are those of Okabe and Ito (2008), which all kinds of colour vision tell apart.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryoformer.errors import InputError
from cryoformer.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#7F7F7F"
PALETTE = [BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK]
DOTS_PER_INCH = 130


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that many inches.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = 'pictures need matplotlib, which is not installed; run: pip install "cryoformer[report]"'
        raise InputError(message) from error
    return Figure(figsize=(width, height), layout="constrained")


def unsure_colours() -> "Colormap":
    """Of uncertainty, as the viewer draws it: grey is certain."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("unsure", ["#ccd3db", "#d0b3c9", "#c98db2", "#b5608f", "#8a2f66"])


def draw_threshold(panel: Any, threshold: float) -> None:
    """A line across an FSC plot, with its value."""
    panel.axhline(threshold, color=GREY, linewidth=0.8)
    panel.annotate(f"{threshold:g}", (0.0, threshold), (2, 2), xycoords=("axes fraction", "data"),
                   textcoords="offset points", fontsize=8, color="#57606a")  # fmt: skip


def save(figure: "Figure", path: Path) -> Path:
    """Write the figure as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    return path
