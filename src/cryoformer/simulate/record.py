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
from cryoformer.simulate.hinges import largest_chain_break
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.simulate.specimen import Specimen
from cryoformer.simulate.structures import AtomicModel

LIBRARIES = ("gemmi", "numpy", "scipy", "torch", "torch-ctf")


def write_record(
    target: Path,
    config: SimulateConfig,
    models: Sequence[AtomicModel],
    specimen: Specimen,
    centre_angstrom: Float[np.ndarray, " 3"],
    clean_std: float,
    noise_std: float,
) -> None:
    """Write the record; everything in it follows from the settings and the input files, never from the clock."""
    chain_break = largest_chain_break(specimen.model, specimen.path)
    # Settings that are not used are left out where they came later than the format, so that no set's bytes change.
    unused = {"out"} | {name for name in ("independent_domains", "compositions") if not getattr(config, name)}
    record: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude=unused) | {"snr": _finite(config.snr)},
        "resolution_angstrom": float(np.sqrt(config.b_factor_angstrom2 / 4)),
        "input_sha256": {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in config.models},
        "keyframes": [model.name for model in models],
        "atoms": len(models[0].elements),
        "residues": len(models[0].residues),
        "centre_angstrom": centre_angstrom.tolist(),
        "segments": [asdict(segment) for segment in specimen.segments],
        "largest_chain_break": asdict(chain_break) if chain_break and specimen.path.screws else None,
        "clean_std": clean_std,
        "noise_std": noise_std,
        "density_unit": "volt; a clean image before CTF is the sum of the voxels along z",
        "versions": {"cryoformer": __version__} | {name: version(name) for name in LIBRARIES},
    }
    if config.independent_domains:
        record["coordinates"] = [domain.residues for domain in specimen.segments[0].domains]
    if config.compositions:
        record["compositions"] = [
            composition.model_dump() | {"atoms": int(atoms.sum())}
            for composition, atoms in zip(config.compositions, specimen.present, strict=True)
        ]
    target.write_text(json.dumps(record, indent=2) + "\n")


def _finite(value: float) -> float | str:
    """JSON has no infinity."""
    return value if np.isfinite(value) else "inf"
