"""Other methods on the same particles: ``baseline``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import (
    NOTHING_GIVEN,
    OptionalFile,
    OptionalFolder,
    OutFolder,
    Reading,
    Settings,
    app,
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
    datadir: OptionalFolder = None,
    poses: OptionalFile = None,
    ctf: OptionalFile = None,
    no_ctf: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    half: Annotated[int | None, arg(metavar="1|2")] = None,
    max_minutes: Annotated[float | None, arg(metavar="M", help_behavior_hint="")] = None,
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
        datadir: Folder to look for the image stacks in first.
        poses: cryoDRGN's poses.pkl, for images without poses.
        ctf: cryoDRGN's ctf.pkl, for images without CTF.
        no_ctf: The images have no CTF, or are corrected for it: take it as 1, whatever the file says.
        half: Half-set to use, as the file has it, or by the seed.
        max_minutes: Time limit; methods that train in epochs then stop and keep what they have.
        reading: How images are read.
        executable: cryoDRGN's command, where it is not on the PATH.
        settings: Settings of the method, such as --set epochs=50.
    """
    from cryoformer.baselines.folder import fit_baseline
    from cryoformer.formats.particle_input import ParticleInput

    values = parse_settings(settings) | ({} if executable is None else {"executable": str(executable)})
    source = ParticleInput(particles, datadir, poses, ctf, half=half, no_ctf=no_ctf)
    found = fit_baseline(
        method,
        source,
        out,
        max_minutes=max_minutes,
        reading=reading.settings(),
        settings=values,
    )
    print(f"{found.path}: finished; see 'cryoformer evaluate {found.path} --truth DIR'")
