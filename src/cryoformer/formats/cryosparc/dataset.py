"""cryoSPARC's files: ``.cs`` datasets through cryosparc-tools, and the ``.csg`` that lets cryoSPARC import one.

A ``.cs`` file is a NumPy file with one record per particle, its fields named ``group/field`` and every record known by
its ``uid``. Nothing in it is ever unpickled: object arrays are refused.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from cryoformer.errors import InputError
from cryoformer.files import atomic_path

if TYPE_CHECKING:
    from cryosparc.dataset import Dataset

logger = logging.getLogger(__name__)

# NumPy's own limit is 10,000 bytes, which data sets of many fields pass.
LARGEST_HEADER = 2**20

# What cryoSPARC calls the type of a result, where it differs from the result's name.
RESULT_TYPES = {r"alignments_class(?:3D)?_\d+": "alignments3D", r"components_mode_\d+": "components"}

CSG_VERSION = "v4.4.1"


def read_dataset(path: Path) -> "Dataset":
    """The table of a ``.cs`` file, with every field.

    Raises:
        InputError: cryosparc-tools is not installed; the file is missing, is no ``.cs`` file, or is cut short.
    """
    dataset_class = _dataset_class(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a cryoSPARC particle file (.cs)")
    _check_header(path)
    try:
        dataset = dataset_class.load(path)
    except Exception as error:
        # The library wraps whatever happened in one exception of its own.
        raise _unreadable(path, error.__cause__ or error) from error
    if len(np.unique(dataset["uid"])) < len(dataset):
        raise InputError(f"{path}: two particles share one uid; export the particles from cryoSPARC again")
    return dataset


def join_passthrough(dataset: "Dataset", source: Path) -> "Dataset":
    """Add the fields that only the passthrough files of the same job have, particle by particle (by ``uid``).

    Args:
        dataset: of ``source``; it is changed.
        source: the ``.cs`` file, beside which the passthrough files are looked for.

    Raises:
        InputError: a passthrough file cannot be read.
    """
    for path in _passthrough_files(source):
        other = read_dataset(path)
        rows = pd.Index(np.asarray(other["uid"])).get_indexer(np.asarray(dataset["uid"]))
        lacking = int((rows < 0).sum())
        if lacking:
            logger.warning("%s: not joined with %s, which lacks %d particles", source, path.name, lacking)
            continue
        fields = [field for field in other.descr() if field[0] not in dataset]
        if fields:
            dataset.add_fields(fields)
            for name, *_ in fields:
                dataset[name] = other[name][rows]
            logger.info("%s: joined with %s", source, path.name)
    return dataset


def _passthrough_files(source: Path) -> list[Path]:
    """Those beside the file: of the same job where the name says its job, otherwise one that stands alone."""
    beside = sorted(path for path in source.parent.glob("*passthrough_particles*.cs") if path != source)
    job = re.search(r"(?:^|_)(J\d+)_", source.name)
    if job is None:
        return beside if len(beside) == 1 else []
    return [path for path in beside if f"_{job.group(1)}_" in f"_{path.name}"]


def new_dataset(path: Path, columns: Mapping[str, np.ndarray]) -> "Dataset":
    """A table of these fields, with a new ``uid`` for every particle.

    Args:
        path: the file it will be, for the message where cryosparc-tools is not installed.
    """
    return _dataset_class(path)(list(columns.items()))


def write_dataset(dataset: "Dataset", path: Path) -> None:
    """Write a ``.cs`` file, whole or not at all."""
    with atomic_path(path) as temporary:
        dataset.save(temporary)


def write_csg(cs_path: Path, dataset_fields: Iterable[str], count: int) -> Path:
    """Write the results group beside a ``.cs`` file, for cryoSPARC's "Import Result Group".

    Args:
        cs_path: the ``.cs`` file, which the group names relative to its own folder.
        dataset_fields: the fields of the dataset, such as ``blob/path``; each group of fields becomes a result.
        count: number of particles.

    Returns:
        The ``.csg`` file.
    """
    results = list(dict.fromkeys(field.split("/")[0] for field in dataset_fields if "/" in field))
    group = {
        "created": datetime.now(UTC).replace(tzinfo=None),
        "group": {
            "description": "Particles written by CryoFormer",
            "name": "particles",
            "title": "Particles",
            "type": "particle",
        },
        "results": {
            name: {"metafile": f">{cs_path.name}", "num_items": int(count), "type": f"particle.{_result_type(name)}"}
            for name in results
        },
        "version": CSG_VERSION,
    }
    target = cs_path.with_suffix(".csg")
    with atomic_path(target) as temporary:
        temporary.write_text(yaml.safe_dump(group, default_flow_style=False))
    return target


def _result_type(name: str) -> str:
    for pattern, result_type in RESULT_TYPES.items():
        if re.fullmatch(pattern, name):
            return result_type
    return name


def _dataset_class(path: Path) -> type["Dataset"]:
    try:
        from cryosparc.dataset import Dataset
    except ImportError as error:
        raise InputError(
            f"{path}: cryoSPARC files need the package cryosparc-tools; install it with pip install "
            "'cryoformer[cryosparc]'"
        ) from error
    return Dataset


def _check_header(path: Path) -> None:
    """Refuse what the library would stumble over: it allocates what a header promises before it reads."""
    with path.open("rb") as file:
        magic = file.read(6)
        if magic == b"\x95CSDAT":
            # Its reader ends the whole process where such a file is damaged.
            raise InputError(
                f"{path}: this is cryoSPARC's compressed stream format; write it as a plain .cs file with "
                "cryosparc-tools: Dataset.load(PATH).save(NEW_PATH)"
            )
        try:
            file.seek(0)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file, max_header_size=LARGEST_HEADER)
        except Exception as error:
            # The header is an expression of Python's syntax, and its parser has many ways to fail.
            raise _unreadable(path, error) from error
        start = file.tell()
    if len(shape) != 1 or dtype.names is None or "uid" not in dtype.names or dtype.hasobject:
        raise InputError(
            f"{path}: no table of particles with a uid each and plain values; expected a particle file that cryoSPARC "
            "wrote or exported (.cs)"
        )
    if shape[0] == 0:
        raise InputError(f"{path}: the particle table has no rows; select at least one particle")
    size, expected = path.stat().st_size, start + shape[0] * dtype.itemsize
    if size < expected:
        raise InputError(
            f"{path}: cut short: the header promises {shape[0]} particles ({expected} bytes), the file has {size} "
            "bytes; copy it again"
        )


def _unreadable(path: Path, error: BaseException) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(
        f"{path}: cannot be read as a cryoSPARC file ({reason}); give a particle file that cryoSPARC wrote or "
        "exported (.cs)"
    )
