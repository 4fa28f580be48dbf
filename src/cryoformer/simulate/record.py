"""``simulation.json``: the settings of a simulation, what was found to move and how far, and the versions used."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer import __version__
from cryoformer.simulate.config import SimulateConfig
from cryoformer.simulate.hinges import largest_chain_break
from cryoformer.simulate.keyframes import SegmentReport
from cryoformer.simulate.motion import MotionPath
from cryoformer.simulate.structures import AtomicModel

LIBRARIES = ("gemmi", "numpy", "scipy", "torch", "torch-ctf")


def write_record(
    target: Path,
    config: SimulateConfig,
    models: Sequence[AtomicModel],
    path: MotionPath,
    segments: Sequence[SegmentReport],
    centre_angstrom: Float[np.ndarray, " 3"],
    clean_std: float,
    noise_std: float,
) -> None:
    """Write the record; everything in it follows from the settings and the input files, never from the clock."""
    chain_break = largest_chain_break(models[0], path)
    record: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude={"out"}) | {"snr": _finite(config.snr)},
        "resolution_angstrom": float(np.sqrt(config.b_factor_angstrom2 / 4)),
        "input_sha256": {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in config.models},
        "keyframes": [model.name for model in models],
        "atoms": len(models[0].elements),
        "residues": len(models[0].residues),
        "centre_angstrom": centre_angstrom.tolist(),
        "segments": [asdict(segment) for segment in segments],
        "largest_chain_break": asdict(chain_break) if chain_break and path.screws else None,
        "clean_std": clean_std,
        "noise_std": noise_std,
        "density_unit": "volt; a clean image before CTF is the sum of the voxels along z",
        "versions": {"cryoformer": __version__} | {name: version(name) for name in LIBRARIES},
    }
    target.write_text(json.dumps(record, indent=2) + "\n")


def _finite(value: float) -> float | str:
    """JSON has no infinity."""
    return value if np.isfinite(value) else "inf"
