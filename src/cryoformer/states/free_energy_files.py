"""The free energy of a run: ``free_energy.json``, ``.csv`` and ``.png``, and what is said of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from cryoformer.errors import InputError
from cryoformer.files import atomic_path, check_output, write_json
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.grids import resample_volume
from cryoformer.progress import RunLog
from cryoformer.run.images import images_of_run
from cryoformer.run.run_folder import Run
from cryoformer.states.curve import read_along_curve
from cryoformer.states.deconvolution import PathLikelihood
from cryoformer.states.free_energy import BOOTSTRAPS, FreeEnergy, Interval, free_energy
from cryoformer.states.free_energy_figure import free_energy_figure
from cryoformer.states.path import DensityPath, even_path

NAME = "free_energy"
BOX = 32
LEAST_BOOTSTRAPS = 40
CAUTION = (
    "Lengths along the path are changes of the density: a choice on which heights of barriers depend, and populations "
    "of wells do not. It is a free energy only as far as the particles are a sample of an equilibrium, and "
    "particle picking and classification kept every state alike."
)


def write_free_energy(
    run: Run,
    line: Float[np.ndarray, "j k"],
    name: str,
    out: Path,
    *,
    bootstraps: int,
    seed: int = 0,
    particles: Path | None = None,
    datadir: Path | None = None,
) -> str:
    """Find the free energy along a line of latents and write it; returns what was found, in words.

    Args:
        name: of the line, in words.
        particles, datadir: where particle file and stacks are now.

    Raises:
        InputError: no motion along the line, particles that are gone, too few samples.
    """
    if bootstraps < LEAST_BOOTSTRAPS:
        raise InputError(f"--bootstraps {bootstraps}: expected {LEAST_BOOTSTRAPS} or more, for intervals of 95 %")
    check_output(out)
    with RunLog(None) as log, images_of_run(run, particles, datadir, focused=True) as (images, *_):
        path, _, found = find_free_energy(run, line, name, images, log, bootstraps=bootstraps, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    columns = {"along": found.along, "free_energy_kt": found.energy, "low": found.low, "high": found.high}
    columns |= {"population": found.populations, "length": found.lengths}
    columns |= {f"latent_{axis}": values for axis, values in enumerate(path.latents.T)}
    with atomic_path(out / f"{NAME}.csv") as temporary:
        pd.DataFrame(columns).to_csv(temporary, index=False, float_format="%.6g")
    free_energy_figure(found, out / f"{NAME}.png")
    facts = _facts(found, path, bootstraps, seed)
    write_json(out / f"{NAME}.json", facts)
    return "\n".join([*facts["words"], str(out / f"{NAME}.json")])


def find_free_energy(
    run: Run,
    line: Float[np.ndarray, "j k"],
    name: str,
    images: Images,
    log: RunLog,
    *,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> tuple[DensityPath, PathLikelihood, FreeEnergy]:
    """The path through a line of latents, what the images of the run say of its places, and the free energy."""
    log.stage("path")
    box = min(BOX, images.box)
    path = even_path(run, line, name, box)
    window = resample_volume(run.model.window.cpu(), box).clamp(0, 1)
    log.stage("densities along the path")
    reading = read_along_curve(images.crop(box), path.volumes, window, log.advance)
    log.stage("free energy")
    unseen = reading.unseen()
    found = free_energy(
        unseen,
        readings=[reading.under(0), reading.under(1)],
        fold=reading.halves,
        bootstraps=bootstraps,
        seed=seed,
        progress=log.advance,
    )
    return path, unseen, found


def _facts(found: FreeEnergy, path: DensityPath, bootstraps: int, seed: int) -> dict[str, Any]:
    return {
        "format": 1,
        "path": path.name,
        "words": in_words(found, path.name),
        "caution": CAUTION,
        "wells": [
            {
                "along": float(found.along[well.place]),
                "latent": path.latents[well.place].tolist(),
                "population": vars(well.population),
                "free_energy_kt": float(found.energy[well.place]),
            }
            for well in found.wells
        ],
        "barriers": [
            {
                "along": float(found.along[barrier.place]),
                "over_left_kt": vars(barrier.over_left),
                "over_right_kt": vars(barrier.over_right),
            }
            for barrier in found.barriers
        ],
        "along": found.along.tolist(),
        "free_energy_kt": found.energy.tolist(),
        "low_kt": found.low.tolist(),
        "high_kt": found.high.tolist(),
        "populations": found.populations.tolist(),
        "uncertainty_of_a_particle": found.uncertainty,
        "smoothness": found.smoothness,
        "left_out_log_likelihood": {f"{key:g}": value for key, value in found.scores.items()},
        "bootstraps": bootstraps,
        "seed": seed,
    }


def in_words(found: FreeEnergy, name: str) -> list[str]:
    """Wells and barriers as sentences."""
    spread = float(np.percentile(found.energy, 95))
    first = f"Free energy along {name}, intervals to 95 %, places from 0 to 1 along the path:"
    if not found.barriers:
        return [
            first,
            f"no barrier of 1 kT or more is certain: 95 % of the path are within {spread:.1f} kT of its lowest place, "
            f"at {found.along[found.wells[0].place]:.2f}.",
        ]
    lines = [first]
    for number, well in enumerate(found.wells, start=1):
        lines.append(f"well {number} at {found.along[well.place]:.2f}: {_percent(well.population)} of the particles.")
    for number, barrier in enumerate(found.barriers, start=1):
        lines.append(
            f"barrier at {found.along[barrier.place]:.2f}: {_kt(barrier.over_left)} over well {number}, "
            f"{_kt(barrier.over_right)} over well {number + 1}."
        )
    return lines


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _kt(height: Interval) -> str:
    return f"{height.value:.1f} kT ({height.low:.1f} to {height.high:.1f})"
