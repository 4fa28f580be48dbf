"""The motion, seen: states side by side (true above reconstructed), and as frames of a movie."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from cryoformer.assess.canvas import new_figure, save
from cryoformer.assess.masks import state_spread
from cryoformer.errors import InputError
from cryoformer.explore.render import Camera, project, render_surface, without_dust
from cryoformer.explore.trajectory import evenly
from cryoformer.explore.viewpoint import choose_camera, contour_level, matching_level, mobility
from cryoformer.imaging.grids import crop_volume

COLUMNS = 5
THREADS = min(os.cpu_count() or 1, 4)
DISPLAY_BOX = 128
"""Larger volumes are Fourier-cropped to this box: pictures have no more pixels to show."""
PROJECTION_SIZE = 150


@dataclass(frozen=True)
class Row:
    """One source's states, ready to be drawn."""

    name: str
    states: list[Float[np.ndarray, "d d d"]]
    mean: Float[np.ndarray, "d d d"]
    level: float
    mobility: Float[np.ndarray, "d d d"]


@dataclass(frozen=True)
class Morph:
    """Reconstructed states along a motion, true ones above them if known, seen by one camera."""

    rows: list[Row]
    labels: list[str]
    camera: Camera


def prepare_morph(
    reconstructed: Iterable[Float[np.ndarray, "d d d"]],
    labels: list[str],
    true: Iterable[Float[np.ndarray, "d d d"]] | None = None,
) -> Morph:
    """Bring states [z, y, x] to one scale, contour and view.

    With truth, the reconstruction is scaled to it by least squares between the means, and its contour encloses as much
    volume as the truth's; the camera is chosen by the true motion.

    Raises:
        InputError: no states, or a volume with values that are not numbers.
    """
    volumes = [displayed(volume) for volume in reconstructed]
    if true is None:
        row = _row("reconstructed", volumes, None)
        return Morph([row], labels, _camera(row))
    true_volumes = [displayed(volume) for volume in true]
    above = _row("true", true_volumes, None)
    mean = state_spread(volumes).mean
    # Within the molecule alone: the noise of the solvent would pull the scale down.
    inside = above.mean > above.level
    scale = float((above.mean * mean)[inside].sum() / max(float((mean**2)[inside].sum()), 1e-300))
    scaled = [np.asarray(volume * max(scale, 1e-12), dtype=np.float32) for volume in volumes]
    below = _row("reconstructed", scaled, int(inside.sum()))
    return Morph([above, below], labels, _camera(above))


def morph_figure(morph: Morph, path: Path, size: int = 300) -> Path:
    """Five states along the motion: surfaces coloured by how much they move, and projections minus their mean."""
    columns = [int(column) for column in evenly(len(morph.labels), COLUMNS)]
    figure = new_figure(2.35 * len(columns) + 0.3, 2.25 * 2 * len(morph.rows) + 0.4)
    grid = figure.subplots(2 * len(morph.rows), len(columns), squeeze=False)
    differences = [_projected_differences(row, morph.camera, columns) for row in morph.rows]
    molecule = without_dust(morph.rows[0].mean, morph.rows[0].level) > morph.rows[0].level
    outline = project(molecule.astype(np.float32), morph.camera, PROJECTION_SIZE)
    # One scale for all, the truth's where it is known: a motion that is too weak must look weak.
    limit = float(max(np.abs(differences[0]).max(), 1e-12))
    for number, row in enumerate(morph.rows):
        for position, column in enumerate(columns):
            surface = _surface(row, column, morph.camera, size)
            grid[number, position].imshow(surface)
            panel = grid[len(morph.rows) + number, position]
            panel.imshow(
                differences[number][position], cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="bilinear"
            )
            panel.contour(outline, levels=[0.5], colors="0.6", linewidths=0.7)
        grid[number, 0].set_ylabel(row.name, fontsize=11)
        grid[len(morph.rows) + number, 0].set_ylabel(f"{row.name},\nprojection minus mean", fontsize=9)
    for position, column in enumerate(columns):
        grid[0, position].set_title(morph.labels[column], fontsize=10)
    for panel in grid.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return save(figure, path)


def motion_frames(morph: Morph, size: int = 260) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Pictures of the states in order, the true one to the left of the reconstructed."""

    def frame(index: int) -> UInt8[np.ndarray, "h w 3"]:
        return np.concatenate([_surface(row, index, morph.camera, size) for row in morph.rows], axis=1)

    # Resampling, which takes most of the time, lets other threads run.
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(frame, range(len(morph.labels))))


def _surface(row: Row, index: int, camera: Camera, size: int) -> UInt8[np.ndarray, "h w 3"]:
    clean = without_dust(row.states[index], row.level)
    return render_surface(clean, row.level, camera, size, colour_by=row.mobility)


def displayed(volume: Float[np.ndarray, "d d d"], largest_box: int = DISPLAY_BOX) -> Float[np.ndarray, "e e e"]:
    """The volume on a grid of at most that box, its density values kept.

    Raises:
        InputError: it holds values that are not numbers.
    """
    if not np.isfinite(volume).all():
        raise InputError("a volume to be drawn holds values that are not numbers; the reconstruction has failed there")
    box = min(largest_box, volume.shape[0])
    if box == volume.shape[0]:
        return volume
    return crop_volume(volume, box, mean=True)


def _row(name: str, states: list[np.ndarray], voxels: int | None) -> Row:
    """Contour level from the mean: its own, or the one that encloses that many voxels."""
    spread = state_spread(states)
    level = contour_level(spread.mean) if voxels is None else matching_level(spread.mean, voxels)
    return Row(name, states, spread.mean, level, mobility(spread.deviation, level))


def _camera(row: Row) -> Camera:
    """Chosen without the specks that are not drawn, or they would make the molecule small in its picture."""
    clean = [without_dust(volume, row.level) for volume in row.states]
    return choose_camera(clean, state_spread(clean).deviation, row.level)


def _projected_differences(row: Row, camera: Camera, columns: list[int]) -> Float[np.ndarray, "m h w"]:
    return np.stack([project(row.states[column] - row.mean, camera, PROJECTION_SIZE) for column in columns])
