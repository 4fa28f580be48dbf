"""``cryoformer analyze``: find, write, report."""

from pathlib import Path

import torch

from cryoformer.decode.density_model import ConformationModel
from cryoformer.errors import InputError
from cryoformer.explore.analysis_files import write_analysis
from cryoformer.explore.explored_run import ExploredRun
from cryoformer.explore.findings import AnalysisOptions, find
from cryoformer.explore.report import write_report
from cryoformer.progress import RunLog


def analyze(run: ExploredRun, options: AnalysisOptions, device: str = "auto") -> Path:
    """Analyse an open run: ``RUN/analysis``, ``RUN/figures`` and ``RUN/report.html``, whose path is returned.

    Raises:
        InputError: the options do not fit the run, the truth cannot be read, the device is not there, or matplotlib is
            missing.
    """
    with RunLog(None) as log:
        _move(run.model, device)
        found = find(run, options, log)
        write_analysis(found, log)
        log.stage("report")
        return write_report(found)


def _move(model: ConformationModel, device: str) -> None:
    """The whole model to ``cpu``, ``cuda``, ``cuda:1`` ...; auto: to a GPU if there is one."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        model.network.to(name)
        model.base, model.window, model.gain = (t.to(name) for t in (model.base, model.window, model.gain))
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used: {error}") from None
