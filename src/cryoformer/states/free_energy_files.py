"""The free energy of a run: ``free_energy.json``, ``.csv`` and ``.png``, and what is said of it.

That of a plane goes into ``free_energy_plane.json`` and so on, beside that of a path.
"""

from collections.abc import Callable
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
from cryoformer.states.basins import Interval
from cryoformer.states.curve import read_along_curve
from cryoformer.states.deconvolution import PlaceLikelihood
from cryoformer.states.free_energy import BOOTSTRAPS, FreeEnergy, free_energy
from cryoformer.states.free_energy_figure import free_energy_figure, plane_figure
from cryoformer.states.path import DensityPlaces, even_path, plane

NAME, PLANE_NAME = "free_energy", "free_energy_plane"
BOX = 32
LEAST_BOOTSTRAPS = 40
CAUTION = (
    "Lengths along the path are changes of the density: a choice on which heights of barriers depend, and populations "
    "of wells do not. It is a free energy only as far as the particles are a sample of an equilibrium, and "
    "particle picking and classification kept every state alike."
)

# What to find the free energy of, at a box: a path or a plane of a run.
Where = Callable[[Run, int], DensityPlaces]


def on_line(line: Float[np.ndarray, "j k"], name: str) -> Where:
    """Along a line of latents, named in words."""
    return lambda run, box: even_path(run, line, name, box)


def on_plane(components: tuple[int, int]) -> Where:
    """Over two principal coordinates, from 1."""
    return lambda run, box: plane(run, components, box)


def write_free_energy(
    run: Run,
    where: Where,
    out: Path,
    *,
    bootstraps: int,
    seed: int = 0,
    particles: Path | None = None,
    datadir: Path | None = None,
) -> str:
    """Find the free energy along a line of latents, or on a plane, and write it; returns what was found, in words.

    Args:
        particles, datadir: where particle file and stacks are now.

    Raises:
        InputError: no motion there, particles that are gone, too few samples.
    """
    if bootstraps < LEAST_BOOTSTRAPS:
        raise InputError(f"--bootstraps {bootstraps}: expected {LEAST_BOOTSTRAPS} or more, for intervals of 95 %")
    check_output(out)
    with RunLog(None) as log, images_of_run(run, particles, datadir, focused=True) as (images, *_):
        places, _, found = find_free_energy(run, where, images, log, bootstraps=bootstraps, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    name = NAME if len(found.shape) == 1 else PLANE_NAME
    axes = ["along"] if len(found.shape) == 1 else ["x", "y"]
    columns = dict(zip(axes, found.positions.T, strict=True))
    columns |= {"free_energy_kt": found.energy, "low": found.low, "high": found.high}
    columns |= {"population": found.populations, "length" if len(found.shape) == 1 else "area": found.sizes}
    columns |= {f"latent_{axis}": values for axis, values in enumerate(places.latents.T)}
    with atomic_path(out / f"{name}.csv") as temporary:
        pd.DataFrame(columns).to_csv(temporary, index=False, float_format="%.6g")
    draw = free_energy_figure if len(found.shape) == 1 else plane_figure
    draw(found, out / f"{name}.png")
    facts = _facts(found, places, bootstraps, seed)
    write_json(out / f"{name}.json", facts)
    return "\n".join([*facts["words"], str(out / f"{name}.json")])


def find_free_energy(
    run: Run, where: Where, images: Images, log: RunLog, *, bootstraps: int = BOOTSTRAPS, seed: int = 0
) -> tuple[DensityPlaces, PlaceLikelihood, FreeEnergy]:
    """The places, what the images of the run say of them, and the free energy."""
    log.stage("places")
    box = min(BOX, images.box)
    places = where(run, box)
    window = resample_volume(run.model.window.cpu(), box).clamp(0, 1)
    log.stage("their densities")
    reading = read_along_curve(images.crop(box), places, window, log.advance)
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
    return places, unseen, found


def _facts(found: FreeEnergy, places: DensityPlaces, bootstraps: int, seed: int) -> dict[str, Any]:
    return {
        "format": 2,
        "path" if len(found.shape) == 1 else "plane": places.name,
        "shape": list(found.shape),
        "words": in_words(found, places.name),
        "caution": CAUTION if len(found.shape) == 1 else CAUTION.replace("Lengths along the path", "Areas"),
        "wells": [
            {
                "place": found.positions[well.place].tolist(),
                "latent": places.latents[well.place].tolist(),
                "population": vars(well.population),
                "free_energy_kt": float(found.energy[well.place]),
            }
            for well in found.wells
        ],
        "barriers": [
            {
                "place": found.positions[barrier.place].tolist(),
                "between_wells": [number + 1 for number in barrier.wells],
                "over_first_kt": vars(barrier.over_first),
                "over_second_kt": vars(barrier.over_second),
            }
            for barrier in found.barriers
        ],
        "positions": found.positions.tolist(),
        "free_energy_kt": found.energy.tolist(),
        "low_kt": found.low.tolist(),
        "high_kt": found.high.tolist(),
        "populations": found.populations.tolist(),
        "uncertainty_of_a_particle": found.uncertainty.tolist(),
        "smoothness": found.smoothness,
        "left_out_log_likelihood": {f"{key:g}": value for key, value in found.scores.items()},
        "bootstraps": bootstraps,
        "seed": seed,
    }


def in_words(found: FreeEnergy, name: str) -> list[str]:
    """Wells and barriers as sentences."""
    over, way = ("along", "along the path") if len(found.shape) == 1 else ("over", "along either axis")
    first = f"Free energy {over} {name}, intervals to 95 %, places from 0 to 1 {way}:"

    def at(place: int) -> str:
        return " and ".join(f"{value:.2f}" for value in found.positions[place])

    if not found.barriers:
        by_energy = np.argsort(found.energy)
        most = np.searchsorted(np.cumsum(found.populations[by_energy]), 0.95)
        spread = float(found.energy[by_energy][min(int(most), len(by_energy) - 1)])
        return [
            first,
            f"no barrier of 1 kT or more is certain: 95 % of the particles are within {spread:.1f} kT of the lowest "
            f"place, at {at(found.wells[0].place)}.",
        ]
    lines = [first]
    for number, well in enumerate(found.wells, start=1):
        lines.append(f"well {number} at {at(well.place)}: {_percent(well.population)} of the particles.")
    for barrier in found.barriers:
        one, other = (number + 1 for number in barrier.wells)
        lines.append(
            f"barrier at {at(barrier.place)}: {_kt(barrier.over_first)} over well {one}, "
            f"{_kt(barrier.over_second)} over well {other}."
        )
    return lines


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _kt(height: Interval) -> str:
    return f"{height.value:.1f} kT ({height.low:.1f} to {height.high:.1f})"
