"""A finished run in the browser: ``view``."""

import os
from typing import Annotated

import tyro
from tyro.conf import arg

from cryoformer.cli.arguments import WHERE_IT_WAS, Place, RunPath, app
from cryoformer.cli.extras import need


@app.command
def view(
    run: RunPath,
    /,
    *,
    port: Annotated[int, arg(metavar="N")] = 0,
    token: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")] = None,
    open_browser: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    where: Place = WHERE_IT_WAS,
) -> None:
    """Look at a run: move over the landscape of states and see the density change; select and export particles.

    Prints an address for the browser of this machine. It works until the command is interrupted (Ctrl+C).

    Args:
        run: Folder of a run.
        port: Port to listen on; 0 takes a free one.
        token: Secret of the printed address instead of a new one: with the same --port and token, a window that is
            still open finds the viewer again after a restart. Others on this machine may see it among the processes;
            the environment variable CRYOFORMER_VIEW_TOKEN says it to nobody.
        open_browser: Open the address in the default browser.
        where: Where the particles of the run are, if no longer where they were.
    """
    need("view", "view")
    from cryoformer.explore.view.server import serve
    from cryoformer.explore.view.session import Session
    from cryoformer.run.run_folder import open_run

    def announce(address: str) -> None:
        print(address, flush=True)
        if open_browser:
            import webbrowser

            webbrowser.open(address)

    secret = token or os.environ.get("CRYOFORMER_VIEW_TOKEN")
    serve(Session(open_run(run), where.particles, where.datadir), port, announce, secret)
