"""Particles of one part of a run: the rest taken off the images, and the part's own poses."""

from pathlib import Path

import numpy as np
import torch

from cryoformer.errors import InputError
from cryoformer.files import check_empty
from cryoformer.formats.relion.star import write_particles_star
from cryoformer.particles.stack_writer import StackWriter
from cryoformer.parts.subtract import images_of_part, part_views
from cryoformer.run.images import images_of_run
from cryoformer.run.run_folder import open_run


def subtract(run: Path, part: int, out: Path, particles: Path | None = None, datadir: Path | None = None) -> str:
    """Write ``particles.star`` and ``particles.mrcs`` of a part (from 1) into the folder ``out``.

    Raises:
        InputError: a run without parts, a part that it does not have, or particles that are gone.
    """
    finished = open_run(run)
    density = finished.parts
    if density is None:
        raise InputError(
            f"{run}: has no parts: images that were held out liked its network better, or none were sought"
        )
    if not 1 <= part <= len(density):
        raise InputError(f"--part {part}: {run} has parts 1 to {len(density)}")
    check_empty(out)
    latents = torch.from_numpy(np.asarray(finished.latents, dtype=np.float32))
    with images_of_run(finished, particles, datadir, focused=True, whole=True) as (images, _, table):
        out.mkdir(parents=True, exist_ok=True)
        count, box, pixel_size = len(images), images.box, images.pixel_size_angstrom
        writer = StackWriter(out, count, box, np.dtype(np.float32), [pixel_size], count)
        for some in images_of_part(images, density, latents, part - 1):
            writer.write(some.numpy())
        writer.finish()
        rotations, _ = part_views(images.rotations, density.places(latents), part - 1)
        write_particles_star(
            out / "particles.star",
            [f"{row + 1:06d}@particles.mrcs" for row in range(count)],
            rotations.double().numpy(),
            np.zeros((count, 2)),
            table.ctf,
            pixel_size / images.scale.double().numpy(),
            box,
            images.halves.numpy() + 1,
        )
    return f"{out / 'particles.star'}: {count} particles of part {part}"
