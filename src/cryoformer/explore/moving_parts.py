"""Parts that move, for the report: what they do in words, where they are, and how well their halves agree."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer.assess.canvas import BLACK, PALETTE, draw_threshold, new_figure, save
from cryoformer.explore.viewpoint import contour_level
from cryoformer.imaging.fsc import resolution
from cryoformer.parts.density import MovedParts
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.run.run_folder import Run

THRESHOLD = 0.143
# Of protein, at its partial specific volume of 0.73 cm^3/g (Erickson, Biol. Proced. Online 11, 32, 2009).
CUBIC_ANGSTROM_PER_DALTON = 1.212


def part_words(run: Run) -> list[str]:
    """A sentence or two for every part; what moves in no part is density that comes and goes, or bends."""
    density = run.parts
    if density is None:
        return []
    told = {line["part"]: line for line in run.metrics if line.get("stage") == "part"}
    own = {line["part"]: line for line in run.metrics if line.get("stage") == "own_poses" and line["kept"]}
    held = np.array([float(part.sum()) for part in density.densities.parts])
    shares = held / (float(density.densities.still.sum()) + held.sum())
    words = []
    for number, (share, mass) in enumerate(zip(shares, part_masses(density), strict=True), start=1):
        line = told.get(number)
        if line is None:
            continue
        turn, way = f"{line['degrees']:.0f}", f"{line['angstrom']:.0f}"
        if "error" in line:
            turn, way = f"{turn} ± {line['error']:.1f}", f"{way} ± {line['angstrom_error']:.1f}"
        axis = ", ".join(f"{x:.2f}" for x in line["axis"])
        reached = resolution(
            density.half_map_fsc[number - 1].double().numpy(), density.densities.box, run.pixel_size_angstrom, THRESHOLD
        )
        text = (
            f"Part {number}, {mass:.0f} kDa ({share:.0%} of the density), turns by {turn}° about the axis ({axis}) in "
            f"x, y, z, and its centre moves by {way} Å, from the first hundredth of the particles to the last. Its "
            f"half maps, in its own frame, agree to {reached:.3g} Å (FSC 0.143, corrected for the mask)."
        )
        if number in own:
            off = own[number]
            text += (
                f" In single particles it stands off this path by {off['degrees']:.1f}° about each axis and "
                f"{off['angstrom']:.1f} Å along it; parts.csv has its pose in every particle."
            )
        words.append(text)
    return words + [kept_words(line) for line in run.metrics if line.get("stage") == "kept"][-1:]


def choice_words(run: Run) -> list[str]:
    """What held-out images said of how many parts there are; none where none were tried."""
    tried: list[dict[str, Any]] = []
    for line in run.metrics:
        if line.get("stage") == "parts_choice":
            # Every choice begins with no part; a run that went on after a kill made it again.
            tried = [*tried, line] if "gain" in line else []
    if not tried:
        return []
    each = "; ".join(
        f"{line['parts']} part{'s' * (line['parts'] != 1)} {line['gain']:+.3f} ± {line['error']:.3f}" for line in tried
    )
    return [
        f"Log likelihood of an image that was held out, at a coarse box, over that under the network alone: {each}. "
        + ("The likeliest model stays." if run.parts is not None else "No part is claimed.")
    ]


def kept_words(line: dict[str, Any]) -> str:
    """Of the network beside the parts."""
    what = "there density comes and goes" if line["comes_and_goes"] else "which moves in none of the parts"
    return f"Beside the parts the network's own density is kept, {line['share']:.0%} of what varies: {what}."


def part_masses(density: MovingDensity) -> list[float]:
    """Of every part, in kDa: what protein of the volume within the molecule's contour weighs."""
    reference = next(density.volumes(density.motions.terms.reference[None]))
    level, voxel = contour_level(reference), density.densities.pixel_size_angstrom**3
    volumes = [int((part > level).sum()) * voxel for part in density.densities.parts]
    return [volume / CUBIC_ANGSTROM_PER_DALTON / 1000 for volume in volumes]


def part_places(run: Run) -> dict[str, Float[np.ndarray, "d d d"]]:
    """Each part's mask where it is in the reference, by the part's name."""
    density = run.parts
    if density is None:
        return {}
    reference = density.motions.at(density.motions.terms.reference[None])
    places = {}
    for number in range(len(density)):
        only = slice(number, number + 1)
        moved = MovedParts(density.masks[only], run.pixel_size_angstrom, order=1)
        part = type(reference)(reference.rotations[only], reference.centres[only])
        places[f"moving part {number + 1}"] = moved.at(part, 0)
    return places


def part_figure(run: Run, path: Path) -> Path:
    """FSC of the half maps of every part, and of the consensus; PNG at ``path``."""
    assert run.parts is not None
    figure = new_figure(5.4, 3.8)
    panel = figure.subplots()
    curves = [("consensus", BLACK, consensus_fsc(run))]
    curves += [
        (f"part {number + 1}", PALETTE[number % len(PALETTE)], curve.numpy())
        for number, curve in enumerate(run.parts.half_map_fsc)
    ]
    for label, colour, curve in curves:
        frequency = np.arange(len(curve)) / (run.box * run.pixel_size_angstrom)
        panel.plot(frequency[1:], curve[1:], color=colour, linewidth=1.8, label=label)
    draw_threshold(panel, THRESHOLD)
    panel.set(xlabel="spatial frequency (1/Å)", ylabel="FSC of half maps", ylim=(-0.1, 1.03))
    panel.set_xlim(0.0, 0.5 / run.pixel_size_angstrom)
    panel.legend(frameon=False)
    panel.grid(alpha=0.25)
    return save(figure, path)


def consensus_fsc(run: Run) -> Float[np.ndarray, " s"]:
    """Of the half maps of the consensus, without a mask, as the log of the run has it; empty for a run without."""
    curves = (line["half_map_fsc"] for line in run.metrics if line.get("half_map_fsc"))
    return np.array(next(curves, []), dtype=np.float64)
