"""The processes of a run: started by torchrun, on one machine also by ``--devices``, and joined through Fabric.

``torchrun --nproc-per-node 2 -m cryoformer train ...`` starts two and says so in the environment. ``--devices 2`` has
torchrun's launcher do the same from here. Either way a process that dies takes the others with it.
"""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from cryoformer.communication import Processes, is_loss
from cryoformer.errors import InputError, ProcessLost, SharedInputError
from cryoformer.model.registry import PLUGINS, read_plugin

logger = logging.getLogger(__name__)

# A process that hangs, rather than dies, is given up after this time; one may well have to wait for another's disk.
PATIENCE = timedelta(minutes=30)

What = TypeVar("What")


def started() -> bool:
    """Whether this process is one of those that torchrun started."""
    return dist.is_torchelastic_launched()


def start(count: int, work: Callable[[], What]) -> What:
    """What ``work``, which can be pickled, gives in the first of ``count`` processes on this machine.

    Raises:
        InputError: one of them has raised it.
        ProcessLost: one has died.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What went wrong is said in one line, by whoever calls.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=5,
    )
    level = logging.getLogger("cryoformer").getEffectiveLevel()
    try:
        ended = elastic_launch(config, _worker)(work, count, tuple(PLUGINS), level)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            # A mistake of the program: what it says there is all that helps.
            said: Any = failure.message
            trace = said["extraInfo"]["py_callstack"] if isinstance(said, dict) else said
            raise RuntimeError(f"process {number + 1} of {count} failed:\n{trace}") from None
        how = f"was killed (signal {-failure.exitcode})"
        raise ProcessLost(f"process {number + 1} of {count} {how}, so all have ended") from None
    except SignalException as signal:
        raise KeyboardInterrupt from signal
    for kind in ("input", "lost"):
        for text in (text for said, text in ended.values() if said == kind):
            raise InputError(text) if kind == "input" else ProcessLost(text)
    result: What = ended[0][1]
    return result


def _worker(work: Callable[[], Any], count: int, plugin_files: tuple[str, ...], level: int) -> tuple[str, Any]:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("cryoformer").setLevel(level)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    try:
        for path in plugin_files:
            read_plugin(path)
        return "done", work()
    except InputError as error:
        return "input", str(error)
    except ProcessLost as error:
        return "lost", str(error)


@contextmanager
def joined(device: str, precision: str = "float32") -> Iterator[tuple[Fabric, Processes]]:
    """Fabric for this process, and the others that it works with, until the block ends.

    Raises:
        InputError: a device that is not there, or has no such precision.
        ProcessLost: another process has gone.
    """
    fabric = _join(device, precision)
    processes = Processes.running()
    if not processes.first:
        # The first process says what there is to say.
        logging.getLogger("cryoformer").setLevel(logging.ERROR)
    try:
        yield fabric, processes
    except SharedInputError:
        # They end together, once it has been told.
        raise
    except Exception as error:
        if not is_loss(error):
            raise
        who = f"process {processes.rank + 1} of {processes.size}"
        raise ProcessLost(f"{who}: another process has gone, so this one ends") from error
    if processes.size > 1:
        dist.destroy_process_group()


def _join(device: str, precision: str) -> Fabric:
    name = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    accelerator, _, number = name.partition(":")
    here, world = (int(os.environ[key]) if started() else 1 for key in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if accelerator == "cpu" and precision != "float32":
        raise InputError(f"setting precision: {precision} is for a GPU; on a CPU expected float32")
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    if number and world > 1:
        raise InputError(f"--device {device}: several processes take a device each; expected {accelerator}")
    kind: Any = "bf16-mixed" if precision == "bf16" else "32-true"
    devices: Any = [int(number)] if number else here
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    strategy = DDPStrategy(timeout=PATIENCE) if world > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=accelerator, devices=devices, num_nodes=world // here, strategy=strategy, precision=kind
        )
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise InputError(f"device {device!r} cannot be used: {error}") from None
    return fabric
