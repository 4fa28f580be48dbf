"""The folder of a baseline: what it holds, and a finished one opened for assessment.

method.json           method, settings, input, box, pixel size, seconds; written last, so a folder with it is finished
latents.npz           mean [n, k] and, where the method says it, covariance [n, k, k], in the order of the input
decoder.safetensors   what the method decodes from (cryodrgn has its own folder beside it)
metrics.jsonl         a line per epoch
"""

import json
import shutil
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from cryoformer import __version__
from cryoformer.baselines.interface import FitData, Fitted, baseline, checked_settings, read_images
from cryoformer.decode.volume_source import Decode, VolumeSource
from cryoformer.device import usable_device
from cryoformer.errors import InputError
from cryoformer.files import check_empty, check_output, write_json, write_npz
from cryoformer.formats.fingerprint import pixel_marks
from cryoformer.formats.particle_input import ParticleInput, reopen
from cryoformer.images.fourier_images import Images
from cryoformer.images.settings import ImageSettings
from cryoformer.memory import check_memory
from cryoformer.particles import check_count, check_images
from cryoformer.progress import RunLog, time_limit

# A back-projection needs no held-out images.
LEAST_FOR_HALVES = 4
METHOD_FILE, LATENTS_FILE, DECODER_FILE = "method.json", "latents.npz", "decoder.safetensors"


def fit_baseline(
    method: str,
    source: ParticleInput,
    out: Path,
    *,
    max_minutes: float | None = None,
    reading: ImageSettings | None = None,
    settings: dict[str, Any] | None = None,
) -> "BaselineFolder":
    """Fit a method to particles and write its folder.

    Raises:
        InputError: anything wrong with the files or settings, before anything is written.
    """
    seconds = time_limit(max_minutes)
    checked = checked_settings(method, settings or {})
    reading = reading or ImageSettings()
    reading = reading.model_copy(update={"device": str(usable_device(reading.device))})
    check_empty(out)
    check_output(out)
    particles = source.load(reading.seed)
    check_memory(particles.box, reading.device)
    if method == "homogeneous":
        check_count(particles, LEAST_FOR_HALVES)
    else:
        check_count(particles)
    check_output(out, 60 * particles.box**3)
    check_images(particles, reading.normalise)
    out.mkdir(parents=True, exist_ok=True)
    with RunLog(out / "metrics.jsonl", texts=[out / "log.txt"]) as log:
        torch.manual_seed(reading.seed)
        fitted = baseline(method).fit(FitData(particles, out, reading, seconds, log), checked)
        shutil.rmtree(out / "cache", ignore_errors=True)
        facts = {
            "format": 1,
            "cryoformer": __version__,
            "command": " ".join(["cryoformer", *sys.argv[1:]]),
            "method": method,
            "settings": checked.model_dump(mode="json"),
            "input": source.facts(),
            "fingerprint": particles.fingerprint and particles.fingerprint | {"pixels": pixel_marks(particles)},
            "rows": None if particles.rows is None else len(particles.rows),
            "reading": reading.model_dump(mode="json"),
            "max_minutes": max_minutes,
            "particles": len(particles),
            "box": fitted.box,
            "pixel_size_angstrom": fitted.pixel_size_angstrom,
            "dimension": fitted.latents.shape[1],
            "seconds": round(log.elapsed, 2),
            "found": fitted.facts,
        }
        _write(out, fitted, facts)
        log.say(f"{method}: done in {log.elapsed / 60:.1f} min")
    return open_baseline(out)


def _write(out: Path, fitted: Fitted, facts: dict[str, Any]) -> None:
    arrays: dict[str, Any] = {"mean": fitted.latents}
    if fitted.covariance is not None:
        arrays["covariance"] = fitted.covariance
    write_npz(out / LATENTS_FILE, **arrays)
    write_json(out / METHOD_FILE, facts)


class BaselineFolder(VolumeSource):
    """A finished baseline, read only."""

    def __init__(
        self,
        path: Path,
        facts: dict[str, Any],
        latents: Float[np.ndarray, "n k"],
        covariance: Float[np.ndarray, "n k k"] | None,
    ) -> None:
        super().__init__(str(facts["method"]), latents, lambda points: self._decoder(points))
        self.path, self.facts, self.covariance = path, facts, covariance
        self.method, self.box = self.name, int(facts["box"])
        self.pixel_size_angstrom = float(facts["pixel_size_angstrom"])
        self.seconds = float(facts["seconds"])  # that the fit took

    @property
    def decoder_file(self) -> Path:
        return self.path / DECODER_FILE

    def images(self) -> Images:
        """The images that it was fitted on, read again: for methods that decode from the images themselves.

        Raises:
            InputError: they are not there any more.
        """
        reading = ImageSettings.from_facts(self.facts["reading"] | {"device": "cpu"})
        facts = self.facts["input"] | {"fingerprint": self.facts.get("fingerprint")}
        particles = reopen(self.path, facts).source.load(reading.seed)
        if len(particles) != len(self.latents):
            raise InputError(
                f"{self.path}: was fitted on {len(self.latents)} particles, its particle file now has {len(particles)}"
            )
        return read_images(particles, self.path, reading)

    @cached_property
    def _decoder(self) -> Decode:
        return baseline(self.method).decoder(self)


def is_baseline(path: Path) -> bool:
    """Whether this is the folder of a finished baseline."""
    return (path / METHOD_FILE).is_file()


def open_baseline(path: Path | str) -> BaselineFolder:
    """A finished baseline.

    Raises:
        InputError: none there, an unfinished one, or damaged files.
    """
    path = Path(path)
    try:
        facts = json.loads((path / METHOD_FILE).read_text())
        checked_settings(facts["method"], facts["settings"])
        with np.load(path / LATENTS_FILE, allow_pickle=False) as archive:
            latents = archive["mean"]
            covariance = archive["covariance"] if "covariance" in archive.files else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the folder of a finished baseline ({error}); fit it again") from None
    return BaselineFolder(path, facts, latents, covariance)
