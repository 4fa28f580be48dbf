"""The report of a run: one self-contained HTML file that opens anywhere, and its pictures as files."""

import base64
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer import __version__
from cryoformer.assess.evaluate import EVALUATION_FILE
from cryoformer.assess.sources import FinishedRun
from cryoformer.assess.truth import Truth, load_truth
from cryoformer.errors import InputError
from cryoformer.explore.figures import fsc_figure, landscape_figure, training_figure
from cryoformer.explore.morph import Morph, morph_figure, motion_gif, prepare_morph
from cryoformer.explore.report_page import PAGE
from cryoformer.explore.report_text import (
    evaluation_table,
    repeat_command,
    settings_rows,
    summary,
    warnings,
)
from cryoformer.explore.trajectory import Clusters, Trajectory, clusters, component_trajectory, truth_trajectory
from cryoformer.files import atomic_path

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Findings:
    """Everything that a report shows, before it is drawn."""

    run: FinishedRun
    truth: Truth | None
    trajectory: Trajectory
    clusters: Clusters
    evaluation: dict[str, Any] | None
    evaluation_is_older: bool


def write_report(run_path: Path | str, truth_dir: Path | str | None = None) -> Path:
    """Write ``report.html`` and ``figures/`` into a run directory.

    Args:
        run_path: a run directory.
        truth_dir: the folder of a simulated stack; the true states are then drawn above the reconstructed ones.

    Returns:
        The report's path. It is one file: pictures are inside, nothing is fetched when it is read.

    Raises:
        InputError: the run or the truth cannot be read, or matplotlib is missing.
    """
    from cryoformer.reconstruct.run_directory import open_run

    return report_run(open_run(Path(run_path)), truth_dir)


def report_run(run: FinishedRun, truth_dir: Path | str | None = None) -> Path:
    """As :func:`write_report`, for an open run."""
    findings = _find(run, truth_dir)
    figures = _draw(findings, run.path / "figures")
    page = _fill(findings, figures)
    with atomic_path(run.path / REPORT_FILE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.path / REPORT_FILE


def _find(run: FinishedRun, truth_dir: Path | str | None) -> Findings:
    latents = np.asarray(run.latents_mean)
    if not np.isfinite(latents).all():
        raise InputError(f"{run.path}: the latents hold values that are not numbers; the run has failed")
    truth = None if truth_dir is None else load_truth(truth_dir, run.box, run.pixel_size_angstrom, len(latents))
    trajectory = component_trajectory(latents) if truth is None else truth_trajectory(latents, truth)
    evaluation_file, latents_file = run.path / EVALUATION_FILE, run.path / "latents.npz"
    evaluation = _read_evaluation(evaluation_file)
    older = (
        evaluation is not None
        and latents_file.exists()
        and evaluation_file.stat().st_mtime < latents_file.stat().st_mtime
    )
    return Findings(run, truth, trajectory, clusters(latents), evaluation, older)


def _read_evaluation(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        evaluation = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: is no JSON file ({error}); run `cryoformer evaluate` again or remove it") from error
    if not isinstance(evaluation, dict) or evaluation.get("format") != 1:
        raise InputError(f"{path}: was written by another version; run `cryoformer evaluate` again or remove it")
    return evaluation


def _draw(findings: Findings, folder: Path) -> dict[str, Path]:
    run, truth, trajectory = findings.run, findings.truth, findings.trajectory
    folder.mkdir(parents=True, exist_ok=True)
    morph = _morph(findings)
    figures = {
        "morph": morph_figure(morph, folder / "morph.png"),
        "motion": motion_gif(morph, folder / "motion.gif"),
        "landscape": landscape_figure(
            run.latents_mean,
            folder / "landscape.png",
            None if truth is None else truth.t,
            run.latents_covariance,
            trajectory.particles,
            findings.clusters.particles,
        ),
    }
    if run.metrics:
        figures["training"] = training_figure(run.metrics, folder / "training.png")
    if findings.evaluation is not None:
        figures["fsc"] = fsc_figure(findings.evaluation, folder / "fsc.png")
    return figures


def _morph(findings: Findings) -> Morph:
    run, truth, trajectory = findings.run, findings.truth, findings.trajectory
    reconstructed = run.latent_volumes(run.latents_mean[trajectory.particles])
    if truth is None or trajectory.states is None:
        return prepare_morph(reconstructed, trajectory.labels)
    return prepare_morph(reconstructed, trajectory.labels, (truth.state(int(state)) for state in trajectory.states))


def _fill(findings: Findings, figures: dict[str, Path]) -> str:
    from jinja2 import Environment

    run, evaluation, found = findings.run, findings.evaluation, findings.clusters
    table = None
    if evaluation is not None:
        header, rows = evaluation_table(evaluation)
        settings = evaluation["settings"]
        table = {"header": header, "rows": rows, "images": settings["images"]}
        table |= {"perfect": settings["auc_of_a_perfect_map"], "nyquist": settings["nyquist_angstrom"]}
    total = int(found.sizes.sum())
    particles = ",".join(str(particle) for particle in found.particles)
    return (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            name=run.path.resolve().name,
            version=__version__,
            date=date.today().isoformat(),
            summary=summary(run, evaluation),
            warnings=warnings(run, evaluation, findings.evaluation_is_older),
            truth=findings.truth is not None,
            images={name: _data_address(path) for name, path in figures.items()},
            morph_caption=_morph_caption(findings),
            clusters=[
                {"size": int(size), "share": size / total, "particle": int(particle)}
                for size, particle in zip(found.sizes, found.particles, strict=True)
            ],
            volumes_command=f"cryoformer volumes {run.path.name} --particles {particles} --out clusters",
            table=table,
            settings=settings_rows(run.config),
            command=repeat_command(run),
        )
    )


def _morph_caption(findings: Findings) -> str:
    if findings.truth is None:
        source = (
            "Decoded at the latents of particles along the first principal component (the largest variation in the "
            "latents), from the 5 % to the 95 % quantile. Whether this is one motion is for you to judge."
        )
    else:
        source = (
            "True states, and the reconstruction decoded at the latent nearest to the mean of each state's particles, "
            "with a contour that encloses the same volume and brought to the scale of the truth."
        )
    return (
        f"{source} Surfaces: grey is still, orange moves (standard deviation over the states; full colour at half of "
        "the contour level); specks are hidden. Below: projection minus the mean of the states on one scale, orange "
        "gained, purple lost; the line is the outline of the mean."
    )


def _data_address(path: Path) -> str:
    kind = "gif" if path.suffix == ".gif" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
