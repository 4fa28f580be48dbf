"""The report of a run: one self-contained HTML file that opens anywhere, and its pictures as files."""

import base64
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from cryoformer import __version__
from cryoformer.assess.evaluate import EVALUATION_FILE
from cryoformer.assess.fsc_figure import fsc_figure
from cryoformer.errors import InputError
from cryoformer.explore.analysis_files import cluster_numbers
from cryoformer.explore.figures import (
    half_map_figure,
    landscape_figure,
    outlier_figure,
    surfaces_figure,
    training_figure,
)
from cryoformer.explore.findings import Findings
from cryoformer.explore.gallery import (
    State,
    draw_states,
    part_pictures,
    slice_of_motion,
    turning_camera,
    turning_script,
)
from cryoformer.explore.morph import DISPLAY_BOX, Morph, morph_figure, motion_frames, prepare_morph
from cryoformer.explore.motion import in_words
from cryoformer.explore.movie import write_gif
from cryoformer.explore.moving_parts import choice_words, part_figure, part_words
from cryoformer.explore.report_nulls import has_nulls, nulls_figure, validation_tests
from cryoformer.explore.report_page import PAGE
from cryoformer.explore.report_text import (
    evaluation_table,
    motion_summary,
    outlier_words,
    repeat_command,
    rows_of,
    summary,
    truth_words,
    warnings,
)
from cryoformer.explore.trajectory import Trajectory, truth_trajectory
from cryoformer.files import read_json, write_text
from cryoformer.run.outlier_score import DROP_ABOVE

REPORT_FILE = "report.html"
VALIDATION_FILE = "validation.json"
FREE_ENERGIES = {"free_energy": "along a path", "free_energy_plane": "over two coordinates"}


def write_report(found: Findings) -> Path:
    """Write ``report.html`` and ``figures/`` into the run's folder, or the one asked for.

    Returns:
        The report's path. It is one file: pictures are inside, nothing is fetched when it is read.

    Raises:
        InputError: evaluation.json or validation.json is damaged, or matplotlib is missing.
    """
    run = found.run
    evaluation = _read_json(run.path / EVALUATION_FILE, "cryoformer evaluate")
    if evaluation is not None and evaluation.get("format") != 1:
        raise InputError(
            f"{run.path / EVALUATION_FILE}: was written by another version; run `cryoformer evaluate` again"
        )
    validation = _read_json(run.path / VALIDATION_FILE, "cryoformer validate")
    morph = _morph(found)
    folder = found.folder / "figures"
    figures = _draw(found, morph, evaluation, validation, folder)
    states = draw_states(found, morph.camera, folder)
    page = _fill(found, figures, states, morph, evaluation, validation)
    write_text(found.folder / REPORT_FILE, page)
    return found.folder / REPORT_FILE


def _read_json(path: Path, command: str) -> dict[str, Any] | None:
    return read_json(path, f"run `{command}` again or remove it") if path.is_file() else None


def _is_older(run_path: Path) -> bool:
    """Whether the evaluation is older than the latents it should be about."""
    evaluation, latents = run_path / EVALUATION_FILE, run_path / "latents.npz"
    return evaluation.exists() and latents.exists() and evaluation.stat().st_mtime < latents.stat().st_mtime


def _shown_trajectory(found: Findings) -> Trajectory:
    if found.truth is None:
        return found.trajectories[0]
    return truth_trajectory(np.asarray(found.run.latents), found.truth)


def _morph(found: Findings) -> Morph:
    trajectory = _shown_trajectory(found)
    reconstructed = found.run.latent_volumes(np.asarray(trajectory.latents, dtype=np.float32))
    if found.truth is None or trajectory.states is None:
        return prepare_morph(reconstructed, trajectory.labels)
    truth = found.truth
    return prepare_morph(reconstructed, trajectory.labels, (truth.state(int(state)) for state in trajectory.states))


def _true_values(found: Findings) -> np.ndarray | None:
    """What the particles of the landscape are coloured by."""
    truth = found.truth
    if truth is None or truth.moves or truth.composition is None:
        return None if truth is None else truth.t
    return truth.composition + 1


def _draw(
    found: Findings,
    morph: Morph,
    evaluation: dict[str, Any] | None,
    validation: dict[str, Any] | None,
    folder: Path,
) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    run, principal = found.run, found.principal
    density = found.flexibility.mean
    figures = {
        "morph": morph_figure(morph, folder / "morph.png"),
        "motion": write_gif(motion_frames(morph), folder / "motion.gif"),
        "landscape": landscape_figure(
            principal,
            folder / "landscape.png",
            found.landscape,
            _true_values(found),
            run.latents_covariance,
            {trajectory.name: principal.coordinates_of(trajectory.latents) for trajectory in found.trajectories},
            principal.coordinates[found.clusters.particles],
            "true motion coordinate t" if found.truth is None or found.truth.moves else "true composition",
        ),
        "halves": half_map_figure(
            found.half_map_fsc,
            run.pixel_size_angstrom,
            found.local_resolution,
            found.uncertainty,
            density,
            found.level,
            slice_of_motion(found),
            folder / "resolution.png",
        ),
        "parts": surfaces_figure(part_pictures(found, morph.camera), folder / "parts.png"),
    }
    if run.parts is not None:
        figures["part_fsc"] = part_figure(run, folder / "part_fsc.png")
    if run.outlier_score is not None:
        figures["outliers"] = outlier_figure(run.outlier_score, DROP_ABOVE, folder / "outliers.png")
    if run.metrics:
        figures["training"] = training_figure(run.metrics, folder / "training.png")
    if evaluation is not None:
        figures["fsc"] = fsc_figure(evaluation, folder / "fsc.png")
    figures |= {name: file for name in FREE_ENERGIES if (file := run.path / f"{name}.png").is_file()}
    if validation is not None and has_nulls(validation):
        figures["nulls"] = nulls_figure(validation, folder / "nulls.png")
    return figures


def _fill(
    found: Findings,
    figures: dict[str, Path],
    states: list[State],
    morph: Morph,
    evaluation: dict[str, Any] | None,
    validation: dict[str, Any] | None,
) -> str:
    from jinja2 import Environment

    run, environment = found.run, Environment(autoescape=True)
    environment.filters["code"] = _code
    return environment.from_string(PAGE).render(
        name=run.path.resolve().name,
        path=run.path,
        version=__version__,
        date=date.today().isoformat(),
        summary=summary(run, evaluation),
        motion_summary=motion_summary(found),
        motion=in_words(found.motions, found.trajectories[0]),
        truth_words=truth_words(found),
        warnings=warnings(run, evaluation, _is_older(run.path), found.truth is not None, validation is not None),
        truth=found.truth is not None,
        images={name: _data_address(path) for name, path in figures.items()},
        morph_caption=_morph_caption(found),
        clusters=cluster_numbers(found),
        states=[{"state": state, "address": _data_address(state.picture)} for state in states],
        camera=turning_camera(morph.camera, min(DISPLAY_BOX, run.box)),
        script=turning_script(),
        outliers=outlier_words(run),
        parts=found.parts,
        part_words=part_words(run),
        choice_words=choice_words(run),
        table=_table(evaluation),
        validation=None if validation is None else validation_tests(validation),
        free_energies=[
            {"name": name, "where": where, "found": energy}
            for name, where in FREE_ENERGIES.items()
            if (energy := _read_json(run.path / f"{name}.json", "cryoformer free-energy"))
        ],
        settings=rows_of(run.config),
        command=repeat_command(run),
    )


def _code(text: str) -> str:
    """What stands between backticks as code; everything else is escaped."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _table(evaluation: dict[str, Any] | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    header, rows = evaluation_table(evaluation)
    settings = evaluation["settings"]
    table = {"header": header, "rows": rows, "images": settings["images"]}
    return table | {"perfect": settings["auc_of_a_perfect_map"], "nyquist": settings["nyquist_angstrom"]}


def _morph_caption(found: Findings) -> str:
    if found.truth is None:
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
