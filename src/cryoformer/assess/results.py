"""Whatever a method left behind, opened for assessment: a run, a baseline's folder, or a folder of volumes."""

from dataclasses import dataclass
from pathlib import Path

from cryoformer.assess.volume_folder import open_volume_folder
from cryoformer.baselines.folder import is_baseline, open_baseline
from cryoformer.decode.volume_source import VolumeSource
from cryoformer.run.run_folder import open_run


@dataclass(frozen=True)
class Result:
    """An opened result.

    Attributes:
        kind: "run", "baseline" or "volumes".
        sources: what is scored; the method itself first, for a run its consensus and subspace after it.
        fit_seconds: time that the method took, where it says so.
    """

    path: Path
    kind: str
    sources: list[VolumeSource]
    box: int
    pixel_size_angstrom: float
    fit_seconds: float | None = None

    @property
    def particles(self) -> int:
        """How many there are."""
        return len(self.sources[0].latents)


def open_result(path: Path, name: str | None = None, table: Path | None = None) -> Result:
    """What lies at a path; ``name`` renames the method, ``table`` is that of a folder of volumes.

    Raises:
        InputError: nothing that can be scored lies there.
    """
    if is_baseline(path):
        baseline = open_baseline(path)
        result = Result(path, "baseline", [baseline], baseline.box, baseline.pixel_size_angstrom, baseline.seconds)
    elif table is not None or (any(path.glob("*.mrc")) and not (path / "config.yaml").exists()):
        volumes, box, pixel_size = open_volume_folder(path, table)
        result = Result(path, "volumes", [volumes], box, pixel_size)
    else:
        run = open_run(path)
        elapsed = [float(line["elapsed_s"]) for line in run.metrics if "elapsed_s" in line]
        result = Result(path, "run", run.sources, run.box, run.pixel_size_angstrom, elapsed[-1] if elapsed else None)
    result.sources[0].name = name or result.sources[0].name
    return result
