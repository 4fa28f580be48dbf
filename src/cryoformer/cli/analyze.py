"""Finished runs explored: ``analyze``."""

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import arg

from cryoformer.cli.arguments import OptionalFile, OptionalFolder, RunPath, app, load_latents, optional
from cryoformer.cli.extras import need


@app.command
def analyze(
    run: RunPath,
    /,
    *,
    truth: OptionalFolder = None,
    clusters: Annotated[int, arg(metavar="N")] = 10,
    umap: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    points: OptionalFile = None,
    between: Annotated[tuple[int, int] | None, optional("A B")] = None,
    all_attention: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    out: Annotated[Path | None, arg(metavar="DIR", aliases=("-o",), help_behavior_hint="")] = None,
    device: Annotated[str, arg(metavar="NAME")] = "auto",
) -> None:
    """Landscape, states, trajectories, moving parts, motions and resolution of a run: analysis/ and report.html.

    Args:
        run: Folder of a run.
        truth: Folder of the simulation, if there is one, to compare with.
        clusters: Number of k-means clusters.
        umap: Also lay the latents out by UMAP (needs umap-learn; minutes for many particles).
        points: Latent points, one a row (.npy): a trajectory through them.
        between: Two particles, counted from 0, to join by the path of highest density.
        all_attention: Write the attention maps of every structure query, not of the eight largest alone.
        out: Folder for analysis/, figures/ and report.html instead of the run's, such as a colleague's that cannot be
            written to. The viewer and select look in the run's own.
        device: cpu, cuda, cuda:1, or auto.
    """
    need("analyze", "report", *(["umap"] if umap else []))
    from cryoformer.explore.analyze import analyze as run_analysis
    from cryoformer.explore.findings import AnalysisOptions
    from cryoformer.run.run_folder import open_run

    finished = open_run(run)
    through = None if points is None else load_latents(points, finished.latents.shape[1], "--points")
    print(run_analysis(finished, AnalysisOptions(truth, clusters, umap, through, between, all_attention, out), device))
