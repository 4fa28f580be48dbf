"""``cryoformer analyze``: find, write, report."""

from pathlib import Path

from cryoformer.decode.density_model import ConformationModel
from cryoformer.device import usable_device
from cryoformer.explore.analysis_files import write_analysis
from cryoformer.explore.findings import AnalysisOptions, find
from cryoformer.explore.report import write_report
from cryoformer.files import check_output
from cryoformer.progress import RunLog
from cryoformer.run.run_folder import Run


def analyze(run: Run, options: AnalysisOptions, device: str = "auto") -> Path:
    """Analyse an open run: ``analysis/``, ``figures/`` and ``report.html``, whose path is returned, in ``options.out``.

    Raises:
        InputError: the options do not fit the run, the truth cannot be read, the device is not there, or matplotlib is
            missing.
    """
    for folder in (".", "analysis", "figures"):
        check_output((options.out or run.path) / folder, 40 * run.box**3)
    with RunLog(None) as log:
        _move(run.model, device)
        found = find(run, options, log)
        write_analysis(found, log)
        log.stage("report")
        return write_report(found)


def _move(model: ConformationModel, device: str) -> None:
    """The whole model to this device."""
    there = usable_device(device)
    model.network.to(there)
    model.static, model.window, model.gain = (t.to(there) for t in (model.static, model.window, model.gain))
