"""The paper's experiments: ``benchmark``."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from cryoformer.cli.arguments import OptionalFile, OptionalFolder, app, optional
from cryoformer.cli.extras import need
from cryoformer.errors import InputError


@app.command
def benchmark(
    name: Positional[Annotated[str | None, optional("NAME")]] = None,
    /,
    *,
    out: Annotated[Path | None, arg(metavar="DIR", aliases=("-o",), help_behavior_hint="")] = None,
    size: Literal["everyday", "full", "tiny"] = "everyday",
    models: Annotated[tuple[Path, ...], arg(metavar="A.pdb B.pdb")] = (),
    methods: Annotated[tuple[str, ...], arg(metavar="METHOD ...")] = (),
    stacks: Annotated[tuple[str, ...], arg(metavar="STACK ...")] = (),
    minutes: Annotated[float | None, optional("M")] = None,
    seed: Annotated[int, arg(metavar="K")] = 0,
    threads: Annotated[int | None, optional("T")] = None,
    cryodrgn: OptionalFile = None,
    particles: OptionalFile = None,
    truth: OptionalFolder = None,
    show: Annotated[bool, tyro.conf.FlagCreatePairsOff, arg(name="list")] = False,
) -> None:
    """Run an experiment of the paper: simulate, fit every method in turn, score all alike, write table and plots.

    What is finished is kept in the folder: the same command goes on where it was stopped.

    Args:
        name: Which experiment (--list tells which there are), or a recipe file of your own.
        out: Folder for stacks, fits and the result (NAME.json, NAME.md and plots).
        size: tiny takes a minute and proves nothing; full is the paper's size.
        models: Atomic models to simulate from, instead of the experiment's own.
        methods: Only these methods (or variants) of the experiment.
        stacks: Only these of the stacks that the experiment simulates at this size.
        minutes: Time for methods that train in epochs, instead of what the first of them takes.
        seed: Seed of the simulation and of every fit.
        threads: Threads of every fit.
        cryodrgn: Command of your own cryoDRGN; without it cryoDRGN is left out.
        particles: Particle file to use instead of simulated stacks, with --truth.
        truth: Folder of the simulation that the particles came from.
        show: List the experiments.
    """
    from cryoformer_experiments.recipe import experiment_names, load_experiment

    if show:
        for each in experiment_names():
            experiment = load_experiment(each)
            print(f"{each}: {experiment.title} ({experiment.reproduces})")
        return
    if name is None or out is None:
        raise InputError("benchmark: give the NAME of an experiment and --out DIR; --list tells which there are")
    need("benchmark", "simulate", "report")
    from cryoformer_experiments.plan import Options
    from cryoformer_experiments.run import benchmark as run

    options = Options(out, size, models, methods, stacks, minutes, seed, threads, cryodrgn, particles, truth)
    page = run(name, options)
    print(page.read_text())
    print(page)
