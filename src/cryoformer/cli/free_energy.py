"""How the particles of a run are distributed along a path, as a free energy: ``free-energy``."""

from typing import Annotated

from tyro.conf import arg

from cryoformer.cli.arguments import OptionalFile, OptionalFolder, RunPath, app, load_latents, optional
from cryoformer.cli.extras import need
from cryoformer.errors import InputError


@app.command(name="free-energy")
def free_energy(
    run: RunPath,
    /,
    *,
    component: Annotated[int | None, optional("N")] = None,
    between: Annotated[tuple[int, int] | None, optional("A B")] = None,
    points: OptionalFile = None,
    out: OptionalFolder = None,
    bootstraps: Annotated[int, arg(metavar="N")] = 200,
    seed: Annotated[int, arg(metavar="K")] = 0,
    particles: OptionalFile = None,
    datadir: OptionalFolder = None,
) -> None:
    """Find the free energy along a path through the latent space, with wells, populations and barriers, and intervals.

    The folder gets free_energy.json, .csv and .png; the report of analyze shows them where they are in the run.

    Args:
        run: Folder of a finished run.
        component: The path follows this principal coordinate of the latents (default: 1).
        between: The path joins two particles, counted from 0, through the densest region.
        points: The path goes through these latent points, one a row (.npy).
        out: Folder for what is written; the run's own if not given.
        bootstraps: Bootstrap samples of the particles, for the intervals.
        seed: Seed of the samples.
        particles: Particle file of the run, where it is no longer found.
        datadir: Folder to look for the image stacks in first.
    """
    need("free-energy", "report")
    if sum(given is not None for given in (component, between, points)) > 1:
        raise InputError("give one of --component, --between and --points: they say which path")
    from cryoformer.run.run_folder import open_run
    from cryoformer.states.free_energy_files import write_free_energy
    from cryoformer.states.path import path_line

    finished = open_run(run)
    through = None if points is None else load_latents(points, finished.latents.shape[1], "--points")
    line, name = path_line(finished.latents, component, between, through)
    print(
        write_free_energy(
            finished, line, name, out or run, bootstraps=bootstraps, seed=seed, particles=particles, datadir=datadir
        )
    )
