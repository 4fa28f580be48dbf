"""CryoFormer: continuous heterogeneous reconstruction for cryo-EM.

    import cryoformer as cf

    particles = cf.load_particles("run_data.star")
    run = cf.train(particles, out="RUN", max_minutes=30)     # or cf.open_run("RUN")
    run.table()                                              # latents beside the columns of the file
    run.volumes(run.latents[:3])                             # [3, D, D, D]

Nothing heavy is imported here: the names below are looked up when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryoformer.api import load_particles, train
    from cryoformer.errors import InputError
    from cryoformer.particles import Particles
    from cryoformer.run.run_folder import Run, open_run

__version__ = "0.1.0"
__all__ = ["InputError", "Particles", "Run", "__version__", "load_particles", "open_run", "train"]

_HOME = {
    "InputError": "cryoformer.errors",
    "Particles": "cryoformer.particles",
    "Run": "cryoformer.run.run_folder",
    "load_particles": "cryoformer.api",
    "open_run": "cryoformer.run.run_folder",
    "train": "cryoformer.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cryoformer' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
