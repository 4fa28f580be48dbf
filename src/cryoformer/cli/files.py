"""Particle files: ``downsample`` and ``select``."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from cryoformer.cli.arguments import WHERE_IT_WAS, OptionalFile, OptionalFolder, OutFolder, Place, app, optional
from cryoformer.errors import InputError


@app.command
def downsample(
    particles: Positional[Annotated[Path, arg(metavar="PARTICLES")]],
    /,
    *,
    box: Annotated[int, arg(metavar="D")],
    out: OutFolder,
    dtype: Annotated[Literal["float16", "float32"] | None, optional("float16|float32")] = None,
    per_file: Annotated[int | None, optional("N")] = None,
    datadir: OptionalFolder = None,
) -> None:
    """Fourier-crop every image to a smaller box, with the particle file that goes with it.

    The same command goes on where a stopped one stood.

    Args:
        particles: Particle file (.star or .cs).
        box: New image side in pixels, even.
        out: Folder for the stacks and the particle file; RELION finds them from the current folder.
        dtype: Pixel type of the new stacks; that of the input if not given (float32 for integers).
        per_file: Images per stack; all in one if not given.
        datadir: Folder to look for the image stacks in first.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from cryoformer.formats.downsample import downsample as run

    columns = (TextColumn("downsampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("downsampling", total=None)
        print(
            run(
                particles,
                box,
                out,
                datadir=datadir,
                dtype=dtype,
                per_file=per_file,
                progress=lambda done, count: bar.update(task, completed=done, total=count),
            )
        )


@app.command
def select(
    source: Positional[Annotated[Path, arg(metavar="RUN|PARTICLES")]],
    /,
    *,
    out: Annotated[Path, arg(metavar="FILE", aliases=("-o",))],
    cluster: UseAppendAction[tuple[int, ...]] = (),
    latent_box: Annotated[str | None, optional("MIN1,MAX1,...")] = None,
    name: Annotated[str | None, optional("NAME")] = None,
    drop_outliers: Annotated[bool, FlagCreatePairsOff] = False,
    outliers_above: Annotated[float | None, optional("S")] = None,
    ind: OptionalFile = None,
    random: Annotated[int | None, optional("N")] = None,
    half: Annotated[int | None, optional("1|2")] = None,
    seed: Annotated[int, arg(metavar="K")] = 0,
    where: Place = WHERE_IT_WAS,
) -> None:
    """Write some particles, of a run or of a particle file, with every column of the file they came from.

    What is given must all hold for a particle; several clusters count as one.

    Args:
        source: Folder of a run, or a particle file (.star or .cs).
        out: File to write, in the format the particles came in; .npy writes their row numbers alone, .csv (of a run) a
            table with their latents, contrasts and outlier scores.
        cluster: A state of the run's report, numbered as there (from 1); may be repeated.
        latent_box: Smallest and largest value of the first principal coordinates of the run; empty for no bound.
        name: A selection that was saved in the viewer.
        drop_outliers: Leave out particles that fit the run's densities worse than they should: other molecules, empty
            images, particles off their centre.
        outliers_above: The same, with this outlier score (in standard deviations) as the limit instead of 4.
        ind: Rows, counted from 0: .npy, .txt with one a line, or cryoDRGN's .pkl.
        random: How many to draw at random.
        half: Half-set, as the file has it, or by the seed.
        seed: Seed of what is drawn.
        where: Where the particles of the run, and the image stacks, are.
    """
    from cryoformer.formats.choose import choose_rows
    from cryoformer.formats.load import open_particle_file
    from cryoformer.formats.select import write_selection
    from cryoformer.particles.repeats import reference_numbers

    if (source / "config.yaml").is_file():
        from cryoformer.explore.selection import LatentCriteria, select_of_run, write_table
        from cryoformer.run.outlier_score import DROP_ABOVE

        above = DROP_ABOVE if drop_outliers and outliers_above is None else outliers_above
        criteria = LatentCriteria(tuple(cluster), latent_box, name, above)
        file, rows = select_of_run(source, criteria, ind=ind, random=random, half=half, seed=seed, **vars(where))
        if out.suffix.lower() == ".csv":
            print(f"{write_table(source, rows, out, where.particles, where.datadir)} ({len(rows)} particles)")
            return
    elif cluster or latent_box is not None or name is not None or drop_outliers or outliers_above is not None:
        raise InputError(
            f"{source}: --cluster, --latent-box, --name and --drop-outliers select particles of a run; give its folder"
        )
    else:
        file = open_particle_file(source, where.datadir)
        images = reference_numbers(file.references) if half is not None and file.lists_images else None
        rows = choose_rows(len(file), file.half_set, ind=ind, random=random, half=half, seed=seed, images=images)
    print(f"{write_selection(file, rows, out)} ({len(rows)} particles)")
