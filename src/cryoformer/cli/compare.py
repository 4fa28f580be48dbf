"""Results of any methods side by side: ``compare``."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import Folder, OutFolder, app
from cryoformer.cli.extras import need


@app.command
def compare(
    results: Positional[Annotated[tuple[str, ...], arg(metavar="NAME=PATH")]],
    /,
    *,
    truth: Folder,
    out: OutFolder = Path("comparison"),
    images: Annotated[int, arg(metavar="N")] = 100,
    plot: bool = True,
) -> None:
    """Score any results by the same masks and metrics; prints a table, writes comparison.json and comparison.png.

    Args:
        results: Runs, folders of baselines, or folders of volumes with a class or latent per image (cryoSPARC, RELION,
            RECOVAR, ...), which may name their table: NAME=FOLDER,TABLE.
        truth: Folder of the simulation (truth.npz and gt/).
        out: Folder for the comparison.
        images: Particles that the scores per image are averaged over.
        plot: Draw the FSC curves (needs matplotlib).
    """
    if plot:
        need("compare (with --plot)", "report")
    from cryoformer.assess.compare import Named, markdown_table, table_of
    from cryoformer.assess.compare import compare as run

    print(markdown_table(table_of(run(truth, [Named.parse(text) for text in results], out, images, plot))))
