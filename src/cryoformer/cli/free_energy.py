"""How the particles of a run are distributed along a path, as a free energy: ``free-energy``."""

from typing import Annotated

from tyro.conf import arg

from cryoformer.cli.arguments import (
    WHERE_IT_WAS,
    OptionalFile,
    OptionalFolder,
    Place,
    RunPath,
    app,
    load_latents,
    optional,
)
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
    plane: Annotated[tuple[int, int] | None, optional("N M")] = None,
    out: OptionalFolder = None,
    bootstraps: Annotated[int, arg(metavar="N")] = 200,
    seed: Annotated[int, arg(metavar="K")] = 0,
    where: Place = WHERE_IT_WAS,
) -> None:
    """Find the free energy along a path or over a plane of latents: wells, populations and barriers, with intervals.

    The folder gets free_energy.json, .csv and .png, or free_energy_plane.json, .csv and .png; the report of analyze
    shows them where they are in the run.

    Args:
        run: Folder of a finished run.
        component: The path follows this principal coordinate of the latents (default: 1).
        between: The path joins two particles, counted from 0, through the densest region.
        points: The path goes through these latent points, one a row (.npy).
        plane: No path, but the plane of these two principal coordinates, such as 1 2.
        out: Folder for what is written; the run's own if not given.
        bootstraps: Bootstrap samples of the particles, for the intervals.
        seed: Seed of the samples.
        where: Where the particles of the run are, if no longer where they were.
    """
    need("free-energy", "report")
    if sum(given is not None for given in (component, between, points, plane)) > 1:
        raise InputError("give one of --component, --between, --points and --plane: they say where")
    from cryoformer.run.run_folder import open_run
    from cryoformer.states.free_energy_files import on_line, on_plane, write_free_energy
    from cryoformer.states.path import path_line

    finished = open_run(run)
    if plane is not None:
        wanted = on_plane(plane)
    else:
        through = None if points is None else load_latents(points, finished.latents.shape[1], "--points")
        wanted = on_line(*path_line(finished.latents, component, between, through))
    print(write_free_energy(finished, wanted, out or run, bootstraps=bootstraps, seed=seed, **vars(where)))
