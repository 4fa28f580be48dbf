"""Simulated data: ``simulate`` and ``demo``."""

import sys
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from cryoformer.cli.arguments import OptionalFile, OutFolder, Settings, app, optional, parse_settings
from cryoformer.cli.extras import need


@app.command
def simulate(
    models: Positional[Annotated[tuple[Path, ...], arg(metavar="START [END ...]")]] = (),
    /,
    *,
    out: OutFolder,
    recipe: OptionalFile = None,
    images: Annotated[int | None, optional("N")] = None,
    box: Annotated[int | None, optional("D")] = None,
    pixel_size: Annotated[float | None, optional("A")] = None,
    snr: Annotated[float | None, optional("S")] = None,
    seed: Annotated[int | None, optional("K")] = None,
    moving: Annotated[str | None, optional("B:331-528")] = None,
    settings: Settings = (),
) -> None:
    """Simulate a particle stack with ground truth from atomic models of one molecule.

    Models, --images, --box, --pixel-size and --snr are needed, here or in the recipe. A flag overrides the recipe.

    Args:
        models: Atomic models (.cif or .pdb), in the order of the motion.
        out: Folder for particles.mrcs, particles.star, truth.npz, gt/ and models/; new or empty.
        recipe: Settings as a YAML file.
        images: Number of images.
        box: Image side in pixels, even.
        pixel_size: Pixel size in Angstrom.
        snr: Variance of the clean images after CTF over the variance of the noise.
        seed: The same seed gives the same stack.
        moving: Domains that move, as chain and residues; found by superposition if not given.
        settings: Any other setting of the simulation, such as --set states=20.
    """
    need("simulate", "simulate")
    from cryoformer.simulate.simulate_config import SimulateConfig
    from cryoformer.simulate.stack import simulate as run

    flags: dict[str, Any] = {"images": images, "box": box, "pixel_size_angstrom": pixel_size, "snr": snr, "seed": seed}
    flags |= {"moving": moving, "models": models or None}
    chosen = parse_settings(settings) | {key: value for key, value in flags.items() if value is not None}
    config = (
        SimulateConfig(out=out, **chosen) if recipe is None else SimulateConfig.from_yaml(recipe, out=out, **chosen)
    )
    print(run(config, show_progress=sys.stderr.isatty()))


@app.command
def demo(*, out: OutFolder, max_minutes: Annotated[float | None, optional("M")] = None) -> None:
    """Simulate a small moving protein, reconstruct it, compare with the truth and write the report.

    Args:
        out: Folder for everything that the demo makes.
        max_minutes: Time for the reconstruction; a run that it cuts short says so.
    """
    need("demo", "simulate", "report")
    from cryoformer.demo import run_demo

    print(run_demo(out, max_minutes))
