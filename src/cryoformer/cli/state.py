"""One state of a run at high resolution: ``state``."""

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from cryoformer.cli.arguments import WHERE_IT_WAS, OutFolder, Place, RunPath, app, load_latents, optional
from cryoformer.errors import InputError


@app.command
def state(
    run: RunPath,
    /,
    *,
    out: OutFolder,
    cluster: Annotated[int | None, optional("N")] = None,
    at: Annotated[str | None, optional("Z1,Z2,...|FILE")] = None,
    density_peak: Annotated[int | None, optional("N")] = None,
    min_weight: Annotated[float, arg(metavar="W")] = 0.01,
    where: Place = WHERE_IT_WAS,
) -> None:
    """Make one state's maps from its own images: half maps, FSC, local resolution, and its particles with weights.

    Say which state by one of --cluster, --at and --density-peak.

    Args:
        run: Folder of a finished run.
        out: Folder to write, new or empty.
        cluster: A state of the run's report, numbered as there (from 1).
        at: The first principal coordinates, as the report shows them (--at=-1.5,0.2 where the first is negative), or a
            .npy file with one point of the latent space.
        density_peak: The n-th highest peak of the landscape (from 1).
        min_weight: Particles that count less than this (the one that counts most: 1) are left out of the particle file.
        where: Where the particles of the run are, if no longer where they were.
    """
    if sum(given is not None for given in (cluster, at, density_peak)) != 1:
        raise InputError("say which state: give one of --cluster N, --at Z1,Z2,... and --density-peak N")
    from cryoformer.run.run_folder import open_run
    from cryoformer.states.place import at_cluster, at_coordinates, at_latent, at_peak, is_file_of_latents, read_place
    from cryoformer.states.state_files import write_state

    finished = open_run(run)
    if cluster is not None:
        place = at_cluster(finished, cluster)
    elif density_peak is not None:
        place = at_peak(finished, density_peak)
    elif at is not None and is_file_of_latents(at):
        place = at_latent(finished, load_latents(Path(at), finished.latents.shape[1], "--at")[0])
    else:
        place = at_coordinates(finished, read_place(at or ""))
    print(write_state(finished, place, out, min_weight=min_weight, **vars(where)))
