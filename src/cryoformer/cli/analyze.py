"""Finished runs explored: ``analyze``."""

from cryoformer.cli.arguments import OptionalFolder, RunPath, app


@app.command
def analyze(run: RunPath, /, *, truth: OptionalFolder = None) -> None:
    """Write the report of a run: landscape, conformations, moving regions and resolution, as report.html.

    Args:
        run: Folder of a run.
        truth: Folder of the simulation, if there is one, to compare with.
    """
    from cryoformer.explore.report import write_report

    print(write_report(run, truth))
