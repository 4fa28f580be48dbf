"""Proof against wishful thinking: ``validate``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import AS_IT_IS, NOTHING_GIVEN, OptionalFile, OptionalFolder, Reading, Source, app


@app.command
def validate(
    path: Positional[Annotated[Path, arg(metavar="RUN|PARTICLES")]],
    /,
    *,
    truth: OptionalFolder = None,
    nulls: Annotated[int, arg(metavar="N")] = 5,
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    halves: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    preset: Literal["quick", "same"] = "quick",
    particles: OptionalFile = None,
    source: Source = AS_IT_IS,
    reading: Reading = NOTHING_GIVEN,
) -> None:
    """Test whether structure, motion and uncertainty are real: against particles that do not move, and pure noise.

    A run's folder gets validation.json, which the report of analyze shows. Of particles alone only the null tests are
    done, before hours of training.

    Args:
        path: Folder of a finished run, or a particle file.
        truth: Folder of the simulation, if there is one: are the latents as certain as they claim?
        nulls: Simulations of particles without motion, and of noise, to compare with (3 or more).
        full: Also train a run on simulated particles that do not move (takes as long as that does).
        halves: Also train two runs on half of the particles each, and compare their states (likewise).
        preset: Settings of the runs that --full and --halves train: quick, or the same as the run's.
        particles: Particle file of the run, where it is no longer found.
        source: Where the images are, and what belongs to them.
        reading: How images are read. A run keeps the settings that it has; the seed is that of the tests.
    """
    from cryoformer.validate.validate import VALIDATION_FILE, ValidateOptions
    from cryoformer.validate.validate import validate as run_validation

    options = ValidateOptions(nulls, truth, full, halves, preset, reading.seed or 0, reading.given())
    found = run_validation(path, options, source.of(particles or path))
    for name, test in found.items():
        if isinstance(test, dict):
            print(f"{name}: {test['verdict']}. {test['sentence']}")
    if (path / VALIDATION_FILE).is_file():
        print(path / VALIDATION_FILE)
