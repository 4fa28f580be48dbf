"""One opened run, and the answers to what the page asks about it. Not for more than one thread at a time."""

import time
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from cryoformer.errors import InputError
from cryoformer.explore.flexibility import flexibility, sampled_states
from cryoformer.explore.view.colouring import Colourings
from cryoformer.explore.view.columns import Columns, read_clusters
from cryoformer.explore.view.decoder import StateDecoder
from cryoformer.explore.view.directions import compared
from cryoformer.explore.view.latent_maps import LatentMaps, read_umap
from cryoformer.explore.view.particle_images import ParticleImages
from cryoformer.explore.view.requests import DifferenceRequest, MapRequest, SliceRequest, State, SurfaceRequest
from cryoformer.explore.view.surface import Surface, isosurface, values_at
from cryoformer.explore.view.trajectories import find_trajectories, latent_along
from cryoformer.explore.view.wire import pack
from cryoformer.explore.viewpoint import contour_level
from cryoformer.files import write_mrc_volume
from cryoformer.formats.particle_input import Reopened, reopen
from cryoformer.particles import Particles
from cryoformer.run.run_folder import Run, RunPaths

REFINED_BOX = 100
"""At rest, surfaces of boxes smaller than this are interpolated to twice their grid, or their voxels would show."""


class Session:
    """A finished run with what ``analyze`` added to it."""

    def __init__(self, run: Run, particles: Path | None = None, datadir: Path | None = None) -> None:
        """``particles`` and ``datadir``: where the run's particle file and its stacks are, if not where they were."""
        self.run, analysis = run, run.path / "analysis"
        self._particles, self._datadir = particles, datadir
        self.count = len(run.latents)
        self.decoder = StateDecoder(run.model, run.parts)
        self.landscape = LatentMaps(run.latents, read_umap(analysis / "latent_space.npz", self.count))
        self.trajectories = find_trajectories(
            analysis / "trajectories", self.landscape.latents, self.landscape.principal
        )
        self.mean_density = self.decoder.density(self.landscape.principal.mean)
        self.sigma = max(float(self.mean_density.std()), 1e-12)
        self.level = contour_level(self.mean_density)
        self.states = read_clusters(analysis, self.count)[1]
        self.columns = Columns(
            analysis,
            self.landscape.principal.coordinates[:, :2],
            np.asarray(run.latents_covariance),
            run.contrast,
            run.outlier_score,
            self._table,
        )
        self.colourings = Colourings(analysis, run.box, lambda: self.mean_density > self.level, self._flexibility)

    @cached_property
    def source(self) -> Reopened:
        """The particle file, looked for when first wanted: the viewer works without it."""
        return reopen(self.run.path, self.run.config, self._particles, self._datadir)

    @cached_property
    def particles(self) -> ParticleImages:
        """The images of the particles."""
        return ParticleImages(self.run, self.source)

    def _table(self) -> tuple[Particles, pd.DataFrame]:
        """The run's particles and their rows of the particle file."""
        paths, columns = RunPaths(self.run.path), self.source.file.columns()
        if paths.rows.exists():
            columns = columns.iloc[paths.read_rows(self.count)]
        return self.particles.particles, columns

    def latent(self, state: State) -> Float[np.ndarray, " k"]:
        """Latent of a state.

        Raises:
            InputError: a state that says too little, or a map, trajectory or particle that is not there.
        """
        if state.map is not None and state.at is not None:
            return self.landscape.latent_at(state.map, state.at)
        if state.path is not None and state.place is not None:
            if state.path not in self.trajectories:
                raise InputError(f"no trajectory '{state.path}'; there are {', '.join(self.trajectories)}")
            return latent_along(self.trajectories[state.path], state.place)
        if state.particle is not None:
            if state.particle >= self.count:
                raise InputError(f"no particle {state.particle}; the run has {self.count}, counted from 0")
            return np.asarray(self.run.latents[state.particle], dtype=np.float64)
        raise InputError("a state needs a map and a place on it, a trajectory and a place along it, or a particle")

    def summary(self) -> dict[str, Any]:
        """What the page needs to know before it asks for anything else."""
        maps = self.landscape.maps.values()
        return {
            "name": Path(self.run.path).resolve().name,
            "particles": self.count,
            "box": self.run.box,
            "liveBox": self.decoder.boxes["live"],
            "pixelSize": self.run.pixel_size_angstrom,
            "level": self.level / self.sigma,
            "highestLevel": float(self.mean_density.max()) / self.sigma,
            "maps": [{"name": m.name, "title": m.title, "axes": m.axis_titles} for m in maps],
            "states": self.states.tolist(),
            "colourings": [{"name": name, "title": title} for name, title in self.colourings.titles.items()],
            "trajectories": [
                {"name": name, "on": {m.name: self.landscape.place_of(m.name, points).tolist() for m in maps}}
                for name, points in self.trajectories.items()
            ],
        }

    def coordinates(self, name: str) -> bytes:
        """All particles on a map, as a message."""
        flat = self.landscape.map(name)
        _ = flat.tree  # made now, or the first move of the cursor would wait for it
        return pack({"kind": "map", "name": name}, {"coordinates": flat.coordinates})

    def column(self, name: str) -> bytes:
        """A value per particle to colour them by, as a message."""
        column = self.columns[name]
        low, high = column.range
        header = {"kind": "column", "name": name, "title": column.title, "isClass": column.is_class}
        return pack({**header, "low": low, "high": high}, {"values": column.values})

    def map_file(self, request: MapRequest) -> bytes:
        """The density of a state, or its difference from another, as an MRC file."""
        volume = self.decoder.density(self.latent(request.state), "full")
        if request.minus is not None:
            volume = volume - self.decoder.density(self.latent(request.minus), "full")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "map.mrc"
            write_mrc_volume(path, volume, self.run.pixel_size_angstrom)
            return path.read_bytes()

    def directions(self, rows: Int[np.ndarray, " m"]) -> bytes:
        """From where particles are seen, the selected ones beside all, as a message."""
        return pack({"kind": "directions"}, compared(self.particles.particles.rotations[:, 2], rows))

    def answer(self, request: SurfaceRequest | DifferenceRequest | SliceRequest) -> bytes:
        """Decode and draw what was asked for; a message with its panel, serial number and time taken."""
        start = time.perf_counter()
        latent = self.latent(request.state)
        volume = self.decoder.density(latent, request.detail)
        pixel_size = self.run.box * self.run.pixel_size_angstrom / len(volume)
        header: dict[str, Any] = {"kind": request.kind, "panel": request.panel, "serial": request.serial}
        if isinstance(request, SurfaceRequest):
            extra, arrays = self._surface(request, volume, pixel_size)
        elif isinstance(request, DifferenceRequest):
            change = volume - self.decoder.density(self.latent(request.minus), request.detail)
            extra, arrays = self._difference(request, change, pixel_size)
        else:
            extra, arrays = self._slice(request, volume)
        return pack({**header, **extra, "milliseconds": 1e3 * (time.perf_counter() - start)}, arrays)

    def _surface(self, request: SurfaceRequest, volume: np.ndarray, pixel_size: float) -> tuple[dict, dict]:
        surface = isosurface(volume, request.level * self.sigma, pixel_size, request.dust, _refinement(request, volume))
        arrays = _arrays("", surface)
        header: dict[str, Any] = {"box": len(volume)}
        if request.colour is not None:
            colouring = self.colourings[request.colour]
            arrays["values"] = values_at(colouring.volume, surface.vertices, self.run.pixel_size_angstrom)
            header["colouring"] = {
                "name": request.colour,
                "title": colouring.title,
                "unit": colouring.unit,
                "low": colouring.low,
                "high": colouring.high,
            }
        if request.state.map is not None and request.state.at is not None:
            header["nearest"] = self.landscape.nearest(request.state.map, request.state.at)
        return header, arrays

    def _difference(self, request: DifferenceRequest, change: np.ndarray, pixel_size: float) -> tuple[dict, dict]:
        level = request.level * self.sigma
        refine = _refinement(request, change)
        more, less = (isosurface(signed, level, pixel_size, refine=refine) for signed in (change, -change))
        header = {"box": len(change), "largest": float(np.abs(change).max()) / self.sigma}
        return header, _arrays("more_", more) | _arrays("less_", less)

    def _slice(self, request: SliceRequest, volume: np.ndarray) -> tuple[dict, dict]:
        values = volume
        if request.minus is not None:
            values = volume - self.decoder.density(self.latent(request.minus), request.detail)
        indices = [round(place * (len(values) - 1)) for place in request.places]
        header = {"indices": indices, "box": len(values), "difference": request.minus is not None}
        planes = {name: np.take(values, i, axis="zyx".index(name)) for name, i in zip("xyz", indices, strict=True)}
        return header, {name: plane / self.sigma for name, plane in planes.items()}

    def _flexibility(self) -> np.ndarray:
        return flexibility(self.run, sampled_states(self.run.latents)).deviation


def _refinement(request: SurfaceRequest | DifferenceRequest, volume: np.ndarray) -> int:
    return 2 if request.detail == "full" and len(volume) < REFINED_BOX else 1


def _arrays(prefix: str, surface: Surface) -> dict[str, np.ndarray]:
    return {
        f"{prefix}vertices": surface.vertices,
        f"{prefix}normals": surface.normals,
        f"{prefix}faces": surface.faces,
    }
