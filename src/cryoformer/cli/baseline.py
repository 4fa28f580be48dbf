"""Other methods on the same particles: ``baseline``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import (
    AS_IT_IS,
    NOTHING_GIVEN,
    OptionalFile,
    OutFolder,
    Reading,
    Settings,
    Source,
    app,
    optional,
    parse_settings,
)


@app.command
def baseline(
    method: Positional[
        Annotated[Literal["homogeneous", "subspace", "sfbp", "resmfn", "cryodrgn"], arg(metavar="METHOD")]
    ],
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    out: OutFolder,
    half: Annotated[int | None, optional("1|2")] = None,
    max_minutes: Annotated[float | None, optional("M")] = None,
    source: Source = AS_IT_IS,
    reading: Reading = NOTHING_GIVEN,
    executable: OptionalFile = None,
    settings: Settings = (),
) -> None:
    """Fit another method to the same particles; evaluate and compare open its folder as they open a run.

    Args:
        method: homogeneous (back-projection), subspace (linear, kernel-regression volumes), sfbp (Sparse Fourier
            Backpropagation), resmfn (residual multiplicative filters, rotations by gradient), cryodrgn (your own
            installation).
        particles: Particle file with poses and CTF (.star, .cs), or images (.mrcs, .txt) with --poses and --ctf.
        out: Folder for the result.
        half: Half-set to use, as the file has it, or by the seed.
        max_minutes: Time limit; methods that train in epochs then stop and keep what they have.
        source: Where its images are, and what belongs to them.
        reading: How images are read.
        executable: cryoDRGN's command, where it is not on the PATH.
        settings: Settings of the method, such as --set epochs=50.
    """
    from cryoformer.baselines.folder import fit_baseline

    values = parse_settings(settings) | ({} if executable is None else {"executable": str(executable)})
    found = fit_baseline(
        method,
        replace(source.of(particles), half=half),
        out,
        max_minutes=max_minutes,
        reading=reading.settings(),
        settings=values,
    )
    print(f"{found.path}: finished; see 'cryoformer evaluate {found.path} --truth DIR'")
