"""What a run writes of its parts: maps with half maps and masks, axes for ChimeraX, and every particle's part poses."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.files import atomic_path, write_mrc_volume, write_text
from cryoformer.imaging.rotations import euler_from_matrix
from cryoformer.parts.motion import PartMotions
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.parts.subtract import part_views

ENDS = (0.01, 0.99)
ARROW_ANGSTROM = 30.0


def write_part_files(
    folder: Path,
    table: Path,
    density: MovingDensity,
    rotations: Float[Tensor, "n 3 3"],
    shifts_angstrom: Float[np.ndarray, "n 2"],
    latents: Float[Tensor, "n k"],
    population: Float[Tensor, "e k"],
) -> None:
    """``still.mrc``; ``part_1.mrc`` with ``_half1``, ``_half2``, ``_mask``, ``_axis.cxc`` for every part; the table.

    The table tells of the particles' ``latents``, the axes of a ``population`` of states, from end to end.
    """
    pixel_size = density.densities.pixel_size_angstrom
    folder.mkdir(parents=True, exist_ok=True)
    write_mrc_volume(folder / "still.mrc", density.densities.still.cpu().numpy(), pixel_size)
    for number in range(len(density)):
        name = f"part_{number + 1}"
        halves = density.halves[number].cpu().numpy()
        volumes = {
            "": density.densities.parts[number].cpu().numpy(),
            "_half1": halves[0],
            "_half2": halves[1],
            "_mask": density.masks[number].cpu().numpy(),
        }
        for ending, volume in volumes.items():
            write_mrc_volume(folder / f"{name}{ending}.mrc", volume, pixel_size)
        write_text(folder / f"{name}_axis.cxc", _axis_script(density, number, population))
    with atomic_path(table) as temporary:
        part_table(density, rotations, shifts_angstrom, latents).to_csv(temporary, index=False, float_format="%.4f")


def part_table(
    density: MovingDensity,
    rotations: Float[Tensor, "n 3 3"],
    shifts_angstrom: Float[np.ndarray, "n 2"],
    latents: Float[Tensor, "n k"],
) -> pd.DataFrame:
    """A row for every part of every particle (counted from 0, parts from 1).

    ``turn`` (degrees about ``axis``) and ``shift`` (Angstrom, x y z) are from the reference, in the molecule's frame;
    ``rot``, ``tilt``, ``psi`` and ``x``, ``y`` (where the part's centre is seen, from the centre of the image) are the
    pose of the part's own map in the image.
    """
    places, tables = density.places(latents), []
    for part, (own, centres) in enumerate(zip(places.rotations, places.centres, strict=True)):
        vectors, moved = roma.rotmat_to_rotvec(own), centres - density.motions.pivots[part]
        turns = vectors.norm(dim=1)
        axes = vectors / turns[:, None].clamp_min(1e-9)
        views, seen = part_views(rotations, places, part)
        rot, tilt, psi = euler_from_matrix(views.double().cpu().numpy()).T
        x, y = (seen.cpu().numpy() + shifts_angstrom).T
        columns = {"particle": np.arange(len(latents)), "part": part + 1, "turn": torch.rad2deg(turns).cpu().numpy()}
        columns |= {f"axis_{name}": values for name, values in zip("xyz", axes.T.cpu().numpy(), strict=True)}
        columns |= {f"shift_{name}": values for name, values in zip("xyz", moved.T.cpu().numpy(), strict=True)}
        tables.append(pd.DataFrame(columns | {"rot": rot, "tilt": tilt, "psi": psi, "x": x, "y": y}))
    return pd.concat(tables)


def ends_of_motion(motions: PartMotions, part: int, population: Float[Tensor, "n k"]) -> Float[Tensor, "2 k"]:
    """The two of a population of states that stand at the ends of a part's motion.

    At a hundredth from either end of what it turns by about its main axis.
    """
    turns = motions.vectors(population)[part, :, :3]
    spread = turns - turns.mean(dim=0)
    along = spread @ torch.linalg.eigh(spread.T @ spread)[1][:, -1]
    order = along.argsort()
    rows = [round(share * (len(order) - 1)) for share in ENDS]
    return population[order[rows]]


def part_motion(
    motions: PartMotions, part: int, population: Float[Tensor, "n k"]
) -> tuple[float, Float[Tensor, "3"], float]:
    """From one end of a part's motion to the other: degrees, axis, and Angstrom by which its centre moves."""
    ends = motions.at(ends_of_motion(motions, part, population))
    turn = roma.rotmat_to_rotvec(ends.rotations[part, 1] @ ends.rotations[part, 0].T)
    moved = float((ends.centres[part, 1] - ends.centres[part, 0]).norm())
    return float(torch.rad2deg(turn.norm())), turn / turn.norm().clamp_min(1e-9), moved


def motion_error(
    motions: PartMotions, halves: Sequence[PartMotions], part: int, population: Float[Tensor, "n k"]
) -> tuple[float, float]:
    """Standard errors of both figures of :func:`part_motion`, degrees and Angstrom, by what two halves differ in.

    An estimate from all images is as far off as half the difference of estimates from either half. A single difference
    may be small by chance, so its three coordinates count, unless the one that matters is the largest.
    """
    ends = ends_of_motion(motions, part, population)
    turns, ways = [], []
    for each in halves:
        places = each.at(ends)
        turns.append(roma.rotmat_to_rotvec(places.rotations[part, 1] @ places.rotations[part, 0].T))
        ways.append(places.centres[part, 1] - places.centres[part, 0])
    errors = []
    for one, other in (turns, ways):
        along = (one + other) / (one + other).norm().clamp_min(1e-9)
        errors.append(float(torch.maximum(((one - other) @ along).abs(), (one - other).norm() / 3**0.5)) / 2)
    return math.degrees(errors[0]), errors[1]


def _axis_script(density: MovingDensity, part: int, population: Float[Tensor, "n k"]) -> str:
    angle, axis, moved = part_motion(density.motions, part, population)
    size = density.densities.pixel_size_angstrom * (density.densities.box // 2)
    pivot = density.motions.pivots[part].cpu()
    low, high = (tuple(float(x) for x in pivot + size + sign * ARROW_ANGSTROM * axis.cpu()) for sign in (-1, 1))
    numbers = [",".join(f"{x:.2f}" for x in point) for point in (low, high)]
    return (
        f"# Part {part + 1}: {angle:.1f} degrees about this axis, its centre moves by {moved:.1f} A.\n"
        f"shape cylinder fromPoint {numbers[0]} toPoint {numbers[1]} radius 1 color #d55e00\n"
    )
