"""The folder of a run: what it holds, and a finished run opened for assessment and exploration.

config.yaml                       everything needed to repeat the run
latents.npz                       mean [n, k], covariance [n, k, k], outlier_score [n], in the order of the input
rows.npy                          rows of the particle file, where not all of them are used
metrics.jsonl                     a line per epoch and per stage
parts.csv                         pose of every part in every particle, where there are parts
poses.npz                         rotations [n, 3, 3] and shifts_angstrom [n, 2] of ``model.orientation: encoder``
log.txt, README.txt               what the run said, and what lies in the folder
checkpoints/consensus.safetensors  stage A      checkpoints/subspace.safetensors   stage B, where there is one
checkpoints/training.safetensors   where training stands
checkpoints/model.safetensors      the finished model
checkpoints/parts_stage.safetensors  where the fit of parts stands
checkpoints/parts.safetensors      parts that move, where images like them better than the network
checkpoints/image_encoder.safetensors  the pose-blind encoder of ``model.encoder: mlp``, which the finished model
                                   replaces by a linear map from latents
checkpoints/poses.safetensors      the same as the run goes on with them
volumes/consensus.mrc, occupancy.mrc, flexible.mrc; still.mrc and part_1.mrc ... where there are parts
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.checkpoint import load_tensors
from cryoformer.decode.factory import model_from_tensors
from cryoformer.decode.volume_source import VolumeSource, linear_decoder
from cryoformer.errors import InputError
from cryoformer.files import write_npz, write_text
from cryoformer.formats.particle_input import reopen
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.images.settings import BEFORE
from cryoformer.parts.moving_density import MovingDensity


@dataclass(frozen=True)
class RunPaths:
    """Names inside the folder of a run."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def latents(self) -> Path:
        return self.root / "latents.npz"

    @property
    def parts(self) -> Path:
        return self.root / "parts.csv"

    @property
    def poses(self) -> Path:
        return self.root / "poses.npz"

    @property
    def rows(self) -> Path:
        return self.root / "rows.npy"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def readme(self) -> Path:
        return self.root / "README.txt"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def checkpoint(self, name: str) -> Path:
        """``consensus``, ``subspace``, ``training``, ``parts_stage``, ``model``, ``parts``, ``poses`` ..."""
        return self.checkpoints / f"{name}.safetensors"

    @property
    def is_done(self) -> bool:
        """Whether nothing is left for ``--resume``: a run that was cut short has a model, and goes on all the same."""
        return self.checkpoint("model").exists() and not self.checkpoint("training").exists()

    def clear_start(self) -> None:
        """Take away what a start leaves that failed before its first stage was done; where more lies there, nothing."""
        ours = {path.name for path in (self.config, self.rows, self.metrics, self.log, self.readme, self.cache)}
        there = list(self.root.iterdir()) if self.root.is_dir() else []
        if ours.issuperset(path.name for path in there):
            for path in there:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def write_config(self, facts: dict[str, Any]) -> None:
        """``config.yaml``."""
        write_text(self.config, yaml.safe_dump(facts, sort_keys=False))

    def read_config(self) -> dict[str, Any]:
        """``config.yaml`` as a dictionary.

        Raises:
            InputError: there is none, or it is damaged.
        """
        if not self.root.is_dir():
            what = "a file" if self.root.exists() else "no such folder"
            raise InputError(f"{self.root}: {what}; expected the folder of a run, as 'cryoformer train --out' makes it")
        if not self.config.exists():
            raise InputError(f"{self.root}: not the folder of a run: there is no config.yaml in it")
        try:
            facts = yaml.safe_load(self.config.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{self.root}: not the folder of a run: config.yaml cannot be read ({error})") from None
        if not isinstance(facts, dict) or not isinstance(facts.get("settings"), dict):
            raise InputError(f"{self.config}: not the settings of a run; was it edited by hand?")
        return facts | {"settings": BEFORE | facts["settings"]}

    def read_rows(self, count: int) -> Int[np.ndarray, " n"]:
        """The row of the particle file that each of the n particles of the run comes from.

        Raises:
            InputError: the run's list of rows is damaged.
        """
        if not self.rows.exists():
            return np.arange(count)
        try:
            rows = np.load(self.rows, allow_pickle=False).astype(np.int64)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise InputError(f"{self.rows}: cannot be read ({error}); train again, or restore it") from error
        if rows.shape != (count,):
            raise InputError(f"{self.rows}: lists {rows.size} rows, the run has {count} particles; restore it")
        return rows

    def write_latents(
        self, mean: Float[Tensor, "n k"], covariance: Float[Tensor, "n k k"], outlier_score: Float[Tensor, " n"]
    ) -> None:
        """``latents.npz``."""
        arrays = {"mean": mean, "covariance": covariance, "outlier_score": outlier_score}
        write_npz(self.latents, **{name: array.cpu().numpy() for name, array in arrays.items()})


class Run(VolumeSource):
    """A finished run, read only. Volumes are [z, y, x] at the images' box, on the scale of normalised images.

    ``latents`` [n, k] are posterior means in the order of the input, ``latents_covariance`` [n, k, k] says how certain
    they are. ``outlier_score`` [n] says how badly each image fits (:mod:`.outlier_score`), in standard deviations; None
    for a run of version 0.1.0. ``subspace`` is the linear model, None for a run that was not started from one.
    """

    def __init__(self, path: Path) -> None:
        self.path, paths = path, RunPaths(path)
        self.config = paths.read_config()
        if not paths.checkpoint("model").exists():
            raise InputError(f"{path}: the run is not finished; go on with 'cryoformer train ... --resume'")
        tensors, facts = load_tensors(paths.checkpoint("model"))
        self.pixel_size_angstrom = float(facts["pixel_size_angstrom"])
        # What a time limit took away, in words.
        self.cut_short: tuple[str, ...] = tuple(facts.get("cut_short", ()))
        self.model = model_from_tensors(tensors, facts)
        self.box = self.model.box
        self.parts: MovingDensity | None = None
        if paths.checkpoint("parts").exists():
            self.parts = MovingDensity.from_tensors(*load_tensors(paths.checkpoint("parts")), self.model)
        with np.load(paths.latents, allow_pickle=False) as latents:
            super().__init__("cryoformer", latents["mean"], self._decode)
            self.latents_covariance = latents["covariance"]
            self.outlier_score: Float[np.ndarray, " n"] | None = latents.get("outlier_score")
        consensus, _ = load_tensors(paths.checkpoint("consensus"))
        self.consensus: Float[np.ndarray, "d d d"] = consensus["volume"].numpy()
        self.half_maps: Float[np.ndarray, "2 d d d"] = consensus["halves"].numpy()
        self.subspace: VolumeSource | None = None
        # What moves outside of the focus, where there is one: it was taken off the images.
        self.off_focus: LinearMotion | None = None
        self.contrast: Float[np.ndarray, " n"] = np.ones(len(self.latents), dtype=np.float32)
        if paths.checkpoint("subspace").exists():
            linear = {name: tensor.numpy() for name, tensor in load_tensors(paths.checkpoint("subspace"))[0].items()}
            if "elsewhere" in linear:
                self.off_focus = LinearMotion(
                    *(torch.from_numpy(linear[name]) for name in ("elsewhere", "elsewhere_latents"))
                )
            decode = linear_decoder(linear["mean"], linear["basis"])
            self.contrast = linear.get("contrast", self.contrast)
            self.subspace = VolumeSource("subspace", linear["latents"], decode)

    def _decode(self, latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        decoder = self.model if self.parts is None else self.parts
        return decoder.volumes(torch.as_tensor(np.asarray(latents, dtype=np.float32)))

    @property
    def sources(self) -> list[VolumeSource]:
        """The reconstruction, its consensus map and, where there is one, its linear subspace."""
        consensus = VolumeSource.homogeneous("consensus", self.consensus, len(self.latents))
        return [self, consensus, *([] if self.subspace is None else [self.subspace])]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        path = RunPaths(self.path).metrics
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.strip()]

    def table(self, particles: Path | None = None, datadir: Path | None = None) -> pd.DataFrame:
        """The columns of the particle file, and of every particle ``latent_0`` ..., their deviations, contrast and
        outlier score.

        Args:
            particles, datadir: where the particle file and its stacks are, if not where they were.

        Raises:
            InputError: the particle file is gone, or no longer has the run's particles.
        """
        columns = reopen(self.path, self.config, particles, datadir).file.columns()
        paths = RunPaths(self.path)
        if paths.rows.exists():
            columns = columns.iloc[paths.read_rows(len(self.latents))]
        if len(columns) != len(self.latents):
            raise InputError(f"{self.path}: has {len(self.latents)} particles, its particle file {len(columns)}")
        deviations = np.sqrt(np.diagonal(self.latents_covariance, axis1=1, axis2=2))
        own = {f"latent_{axis}": values for axis, values in enumerate(self.latents.T)}
        own |= {f"latent_{axis}_deviation": values for axis, values in enumerate(deviations.T)}
        own["contrast"] = self.contrast
        if self.outlier_score is not None:
            own["outlier_score"] = self.outlier_score
        return pd.concat([columns.reset_index(drop=True), pd.DataFrame(own)], axis=1)

    def volumes(self, latents: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m d d d"]:
        """Densities at points of the latent space, all in memory; :meth:`latent_volumes` gives one at a time.

        Raises:
            InputError: points of the wrong dimension.
        """
        return np.stack(list(self.latent_volumes(np.atleast_2d(latents))))


def open_run(path: Path | str) -> Run:
    """A finished run.

    Raises:
        InputError: no run there, an unfinished one, or damaged files.
    """
    return Run(Path(path))
