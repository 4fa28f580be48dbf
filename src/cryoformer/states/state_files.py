"""The folder of a state, and what is said of it.

state.mrc                         both halves, filtered from place to place
state_sharpened.mrc               the same, sharpened by one B-factor, where the map says which
half1.mrc, half2.mrc              unfiltered: near particles where the molecule moves, all particles elsewhere
weighted_half1.mrc, weighted_half2.mrc   of the weighted particles alone
mask.mrc, moving.mrc              soft masks of the molecule and of what moves
local_resolution.mrc, fsc.csv, state.json
decoded.mrc                       the density that the run's decoder gives for the state
particles.star (.cs, .pkl)        particles with a weight of at least --min-weight; weights.csv: all of them
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from cryoformer.errors import InputError
from cryoformer.explore.half_maps import local_resolution
from cryoformer.files import atomic_path, check_empty, check_output, write_json, write_mrc_volume
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.select import write_selection
from cryoformer.progress import RunLog
from cryoformer.run.images import images_of_run
from cryoformer.run.run_folder import Run, RunPaths
from cryoformer.states.place import StatePlace
from cryoformer.states.posterior_mass import effective_number
from cryoformer.states.sharpening import sharpened
from cryoformer.states.state import State, make_state

logger = logging.getLogger(__name__)

ROOM_PER_VOXEL = 50
NAMES = {"molecule": "over the molecule", "moving": "in the region that moves"}


def write_state(
    run: Run,
    place: StatePlace,
    out: Path,
    *,
    min_weight: float,
    particles: Path | None = None,
    datadir: Path | None = None,
) -> str:
    """Make the state at a place and write everything into the folder ``out``; returns what was found, in words.

    Args:
        min_weight: particles that count less, relative to the one that counts most, are not in the particle file.
        particles, datadir: where particle file and stacks are now.

    Raises:
        InputError: ``out`` is not empty, the particles are gone, or the weight is none.
    """
    if not 0.0 <= min_weight <= 1.0:
        raise InputError(f"--min-weight {min_weight:g}: expected a number from 0 to 1, where 1 is the largest weight")
    check_empty(out)
    check_output(out, ROOM_PER_VOXEL * run.box**3)
    with RunLog(None) as log, images_of_run(run, particles, datadir) as (images, file, _):
        log.stage("half maps")
        state = make_state(run, place, images, log.advance)
        log.stage("local resolution")
        out.mkdir(parents=True, exist_ok=True)
        _write_maps(state, out)
        selected = _write_particles(state, file, RunPaths(run.path).read_rows(len(run.latents)), out, min_weight)
        write_json(out / "state.json", _facts(run, state) | {"particles": selected})
    return _in_words(run, state, selected, out)


def _write_maps(state: State, out: Path) -> None:
    pixel, maps = state.pixel_size_angstrom, state.maps
    volumes = {
        "state": state.filtered,
        "half1": maps.halves[0],
        "half2": maps.halves[1],
        "weighted_half1": maps.weighted[0],
        "weighted_half2": maps.weighted[1],
        "mask": state.masks["molecule"],
        "local_resolution": local_resolution(maps.halves, pixel),
        "decoded": state.decoded,
    }
    if "moving" in state.masks:
        volumes["moving"] = state.masks["moving"]
    if state.b_factor is not None:
        volumes["state_sharpened"] = sharpened(state.filtered, pixel, state.b_factor)
    for name, volume in volumes.items():
        write_mrc_volume(out / f"{name}.mrc", volume, pixel)
    frequency = np.arange(len(state.fsc["molecule"])) / (len(state.filtered) * pixel)
    curves = {"frequency_per_angstrom": frequency} | {f"fsc_{name}": curve for name, curve in state.fsc.items()}
    with atomic_path(out / "fsc.csv") as temporary:
        pd.DataFrame(curves).to_csv(temporary, index=False, float_format="%.6f")


def _write_particles(
    state: State, file: ParticleFile, rows: Int[np.ndarray, " n"], out: Path, min_weight: float
) -> dict[str, Any]:
    """``weights.csv`` of all particles, and those that count as a file of the kind they came in."""
    weights, halves = state.width.weights, state.halves + 1
    with atomic_path(out / "weights.csv") as temporary:
        table = pd.DataFrame({"row": rows, "weight": weights, "half": halves})
        table.to_csv(temporary, index=False, float_format="%.6g")
    kept = np.flatnonzero(weights >= min_weight)
    columns = file.weight_columns(weights[kept], halves[kept])
    facts: dict[str, Any] = {"kept": len(kept), "min_weight": min_weight, "file": None, "columns": list(columns)}
    if file.suffix:
        facts["file"] = f"particles{file.suffix}"
        write_selection(file, rows[kept], out / facts["file"], added=columns)
    else:
        logger.warning(
            "%s: rows of such files cannot be written on; the weights are in %s alone", file.path, out / "weights.csv"
        )
    return facts


def _facts(run: Run, state: State) -> dict[str, Any]:
    place, width = state.place, state.width
    return {
        "format": 1,
        "run": str(run.path),
        "place": place.name,
        "axes": place.axes.tolist(),
        "point": place.point.tolist(),
        "latent_of_particle_near": place.latent.tolist(),
        "width": None if np.isinf(width.deviation) else width.deviation,
        "particles_of_run": len(width.weights),
        "effective_particles": width.effective,
        "effective_particles_of_halves": [effective_number(width.weights[state.halves == half]) for half in (0, 1)],
        "widths": [
            {"effective_particles": each.effective, "agreement_with_narrowest": float(agreement.mean())}
            for each, agreement in zip(state.candidates, state.maps.agreement, strict=True)
        ],
        "resolution_angstrom": state.resolutions,
        "nyquist_angstrom": 2 * state.pixel_size_angstrom,
        "b_factor_square_angstrom": state.b_factor,
        "decoded_from": "network" if run.parts is None else f"{len(run.parts)} parts",
    }


def _in_words(run: Run, state: State, selected: dict[str, Any], out: Path) -> str:
    nyquist, count = 2 * state.pixel_size_angstrom, len(state.halves)
    reached = [
        f"{value:.1f} A {NAMES[name]}{' (Nyquist)' if value <= nyquist * 1.001 else ''}"
        for name, value in state.resolutions.items()
    ]
    lines = [
        f"{out}: {state.place.name}. {state.width.effective:.0f} effective particles of {count}; half maps agree to "
        f"{' and '.join(reached)}."
    ]
    if len(state.candidates) == 1:
        lines.append("The latents do not tell particles apart here: this is the map of all particles.")
    elif state.maps.chosen == len(state.candidates) - 1:
        lines.append("No part of the particles gives a better map of the region that moves than all of them.")
    off = _off_place(run, state)
    if off > 1.0 and len(state.candidates) > 1:
        lines.append(
            f"The particles that count are {off:.1f} times their own spread away from this place: none are nearer."
        )
    if run.parts is not None:
        lines.append(
            "decoded.mrc shows the parts of the run, each made from the images of all states, of which state.mrc knows "
            "nothing: of a domain that moves as a whole, decoded.mrc may be the better map."
        )
    if selected["file"]:
        what = f" ({', '.join(selected['columns'])})" if selected["columns"] else ""
        lines.append(f"{out / selected['file']}: {selected['kept']} particles of weight {selected['min_weight']:g} or "
                     f"more{what}.")  # fmt: skip
    return "\n".join(lines)


def _off_place(run: Run, state: State) -> float:
    """How far the weighted particles are from the place on average, in their own spread."""
    away, covariance = state.place.along(run.latents, run.latents_covariance)
    weights = state.width.weights / state.width.weights.sum()
    mean = weights @ away
    spread = weights @ np.square(away - mean) + np.einsum("n,njj->j", weights, covariance)
    return float(np.sqrt(np.mean(np.square(mean) / np.maximum(spread, 1e-300))))
