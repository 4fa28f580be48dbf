"""The states of the clusters as turning surfaces, each with the still picture that paper and old browsers show."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from cryoformer.explore.findings import Findings
from cryoformer.explore.mesh import Mesh, surface_mesh
from cryoformer.explore.morph import THREADS, displayed
from cryoformer.explore.moving_parts import part_places
from cryoformer.explore.render import Camera, render_surface, without_dust
from cryoformer.explore.viewpoint import mobility
from cryoformer.files import atomic_path

PICTURE = 300


@dataclass(frozen=True)
class State:
    """A cluster's centre, ready for the page."""

    number: int
    picture: Path
    mesh: Mesh


def draw_states(found: Findings, camera: Camera, folder: Path) -> list[State]:
    """Pictures ``state_01.png`` ... and meshes of the cluster centres, coloured by flexibility, seen by one camera."""
    from PIL import Image

    level = found.level
    colour = mobility(found.flexibility.deviation, level)

    def draw(number: int, volume: np.ndarray) -> State:
        clean = without_dust(displayed(volume), level)
        picture = render_surface(clean, level, camera, PICTURE, displayed(colour))
        path = folder / f"state_{number:02d}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(picture).quantize(128).save(temporary, "PNG", optimize=True)
        return State(number, path, surface_mesh(volume, level, colour))

    volumes = found.run.particle_volumes(found.clusters.particles)
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(draw, range(1, len(found.clusters.sizes) + 1), volumes))


def turning_camera(camera: Camera, box: int) -> dict[str, object]:
    """The camera for turning surfaces: lengths as fractions of the box."""
    # A turning molecule needs room for its whole radius.
    return {
        "view": camera.view.tolist(),
        "centre": (camera.centre / box).tolist(),
        "reach": float(max(camera.half_width, 0.95 * camera.half_depth) / box),
    }


def turning_script() -> str:
    """The script that turns them (WebGL 2, nothing else)."""
    return files("cryoformer.explore").joinpath("turning_surface.js").read_text(encoding="utf-8")


def slice_of_motion(found: Findings) -> tuple[int, int]:
    """Axis (0: z, 1: y, 2: x) and place of a slice through the most motion, and through much of the molecule."""
    slices, inside = [], found.flexibility.mean > found.level
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        place = int((found.flexibility.deviation**2).sum(axis=others).argmax())
        slices.append((int(np.take(inside, place, axis=axis).sum()), axis, place))
    _, axis, place = max(slices)
    return axis, place


def part_pictures(found: Findings, camera: Camera, most: int = 3) -> dict[str, np.ndarray]:
    """The mean density coloured by flexibility, by the change of attention, and by each of the largest parts.

    Parts that move, where the run has them; else places that change together.
    """
    level = found.level
    mean = without_dust(displayed(found.flexibility.mean), level)
    maps = {"flexibility": found.flexibility.deviation}
    if found.attention is not None:
        maps["change of attention"] = found.attention.volume(found.attention.change, found.run.box)
    moving = part_places(found.run)
    for part in range(0 if moving else min(found.parts.count, most)):
        maps[f"part {part + 1}"] = found.parts.volume(part, found.run.box)
    maps |= dict(list(moving.items())[:most])
    pictures = {}
    for name, volume in maps.items():
        shown = displayed(volume)
        colour = (shown / max(float(np.percentile(shown, 99.9)), 1e-12)).clip(0.0, 1.0)
        pictures[name] = render_surface(mean, level, camera, PICTURE, colour)
    return pictures
