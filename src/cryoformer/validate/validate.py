"""``cryoformer validate``: tests that a result is not wishful thinking, written to ``validation.json``.

``validation.json`` holds ``format``, ``version``, ``particles``, ``seed`` and one entry per test, by its name:
``verdict`` ("holds", "fails" or "not run"), ``sentence``, and the test's numbers (docs/validation.md explains each).
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoformer import __version__
from cryoformer.assess.ground_truth import load_truth
from cryoformer.assess.masks import EDGE_ANGSTROM, soft_mask
from cryoformer.decode.latent_posterior import LATENT_BOX
from cryoformer.errors import InputError
from cryoformer.files import check_output, read_json, read_mrc_volume, write_json, write_npy
from cryoformer.formats.job_folder import holds_particles
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings
from cryoformer.linear.regions import KEPT_AS
from cryoformer.poses.check import PoseCheck, check_poses
from cryoformer.progress import RunLog
from cryoformer.run.run_folder import Run, RunPaths, open_run
from cryoformer.run.train import train
from cryoformer.training.held_out_filter import split_held_out
from cryoformer.training.train_config import load_config
from cryoformer.validate import (
    calibration,
    independent_runs,
    null_motion,
    null_network,
    null_structure,
    parts,
    split_images,
)
from cryoformer.validate.outcome import Outcome, not_run
from cryoformer.validate.validated import Validated, opened

logger = logging.getLogger(__name__)
VALIDATION_FILE = "validation.json"
RUNS_FOLDER = "validation"
"""Where in the run's folder the runs go that a test trains."""
POSES = "poses"


@dataclass(frozen=True)
class ValidateOptions:
    """What to test.

    Attributes:
        nulls: simulations of particles that do not move, and of noise; at least 3.
        truth: folder of the simulation that the particles come from, if there is one.
        full: train a run on particles that do not move.
        halves: train two runs on half of the particles each.
        preset: of these runs: "quick", or "same" as the run.
        seed: of everything random.
        reading: image settings other than those of the run, or than the defaults.
    """

    nulls: int = 5
    truth: Path | None = None
    full: bool = False
    halves: bool = False
    preset: str = "quick"
    seed: int = 0
    reading: Mapping[str, Any] = field(default_factory=dict)


def validate(path: Path, options: ValidateOptions, source: ParticleInput | None = None) -> dict[str, Any]:
    """Test a run, or particles alone (only the nulls then); a run's folder gets ``validation.json``.

    Tests that an earlier call did and this one does not stay in the file.

    Raises:
        InputError: neither a run nor particles, files that are gone, a truth of another stack, or too few nulls.
    """
    if options.nulls < 3:
        raise InputError(f"--nulls {options.nulls}: expected 3 or more, to know how much chance scatters")
    is_run = path.is_dir() and not holds_particles(path)
    if not is_run and (options.truth is not None or options.full or options.halves):
        raise InputError(f"{path}: --truth, --full and --halves need the folder of a finished run, not particles")
    if is_run:
        check_output(path)
    before = _read(path / VALIDATION_FILE) if is_run else {}
    with opened(path, source or ParticleInput(path), {"seed": options.seed, **options.reading}) as subject:
        facts = {"format": 1, "version": __version__, "particles": len(subject.images), "seed": options.seed}
        result = before | facts
        for outcome in _outcomes(subject, options):
            logger.info("%s: %s. %s", outcome.name, outcome.verdict, outcome.sentence)
            result[outcome.name] = _rounded(outcome.facts())
            # What is done stays, should a later test fail.
            if is_run:
                write_json(path / VALIDATION_FILE, result)
    return result


def _outcomes(subject: Validated, options: ValidateOptions) -> Iterator[Outcome]:
    """The tests, each when its turn comes."""
    run = subject.run
    with RunLog(None) as log:
        log.stage("null of structure")
        structure = null_structure.compare_structure(subject.low, options.nulls, options.seed, log.advance)
        yield null_structure.structure_outcome(structure)
        if structure.stands_out:
            log.stage("poses")
            yield poses_outcome(check_poses(subject.low, log.advance))
            yield _motion(subject, options, log)
        else:
            yield not_run(POSES, "There is no structure in the particles to compare poses with.")
            yield not_run(null_motion.NAME, "There is no structure in the particles, so nothing that could move.")
        if run is not None:
            yield _split(subject, run, options, log)
            yield parts.halves_outcome(run.metrics)
    if run is not None and options.truth is not None:
        yield _calibration(run, options.truth)
    # Trainings have a display of their own.
    if run is not None and options.full:
        yield from _network(subject, run, options)
    if run is not None and options.halves:
        yield _halves(subject, run, options)


def poses_outcome(check: PoseCheck) -> Outcome:
    """The test of the poses (:mod:`cryoformer.poses.check`)."""
    numbers = {
        "mean_fsc": check.agreement,
        "mean_fsc_refined": check.agreement_refined,
        "turn_degrees": math.degrees(check.found.prior.turn),
        "shift_angstrom": check.found.prior.shift,
    }
    return Outcome(POSES, "fails" if check.are_off else "holds", check.sentence, numbers)


def _motion(subject: Validated, options: ValidateOptions, log: RunLog) -> Outcome:
    log.stage("null of motion")
    found = null_motion.compare_motion(
        subject.low,
        subject.density,
        subject.mask,
        subject.config.subspace,
        options.nulls,
        options.seed,
        log.advance,
        subject.moving,
    )
    return null_motion.motion_outcome(found)


def _split(subject: Validated, run: Run, options: ValidateOptions, log: RunLog) -> Outcome:
    if not subject.config.refine_latents:
        return not_run(split_images.NAME, "The latents of this run were not read by the decoder's likelihood.")
    log.stage("latents from half images")
    rows = split_images.sample_rows(len(subject.images))
    images = subject.images.take(rows).crop(min(LATENT_BOX, run.box))
    latents = torch.from_numpy(run.latents).float()
    states = subject.config.latent_states
    return split_images.split_outcome(
        split_images.split_images(run.model, images, latents, states, options.seed, log.advance)
    )


def _calibration(run: Run, truth_folder: Path) -> Outcome:
    truth = load_truth(truth_folder, run.box, run.pixel_size_angstrom, len(run.latents))
    mean, covariance = run.latents.astype(np.float64), run.latents_covariance.astype(np.float64)
    return calibration.calibrate_run(mean, covariance, truth)


def _halves(subject: Validated, run: Run, options: ValidateOptions) -> Outcome:
    paths = RunPaths(run.path)
    rows = paths.read_rows(len(subject.images))
    members = subject.images.halves.cpu().numpy()
    runs = [_half_run(subject, rows[members == number], number + 1, run, options) for number in (0, 1)]
    some = split_images.sample_rows(len(subject.images), independent_runs.PARTICLES)
    images = subject.images.take(some)
    with RunLog(None) as log:
        log.stage("matching states")
        one, other = (independent_runs.read_latents(each, images, options.seed) for each in runs)
        # Softer edges than those of the windows that the run itself works with.
        molecule, flexible = (
            soft_mask(
                read_mrc_volume(paths.volumes / f"{name}.mrc")[0] > 0.5, run.pixel_size_angstrom, 0.0, EDGE_ANGSTROM
            )
            for name in ("occupancy", "flexible")
        )
        return independent_runs.runs_outcome(
            independent_runs.compare_runs(
                runs[0], runs[1], (one, other), (molecule, flexible), run.half_maps, options.seed
            )
        )


def _half_run(subject: Validated, rows: np.ndarray, number: int, run: Run, options: ValidateOptions) -> Run:
    folder = run.path / RUNS_FOLDER
    out, listed = folder / f"half{number}", folder / f"half{number}.npy"
    logger.info("run on half %d (%d particles)", number, len(rows))
    if not out.exists():
        write_npy(listed, rows)
    return _trained(replace(subject.source, ind=listed, random=None, half=None), out, _settings(subject, options))


def _network(subject: Validated, run: Run, options: ValidateOptions) -> Iterator[Outcome]:
    observed = null_network.network_gain(run.metrics)
    if observed is None:
        yield not_run(null_network.NAME, "The run's training did not complete an epoch.")
        return
    if not null_network.can_be_simulated(subject.particles):
        yield not_run(
            null_network.NAME,
            "Particles of several boxes or pixel sizes, or multiplied by their CTF, are not simulated.",
        )
        return
    logger.info("run on particles that do not move")
    folder = run.path / RUNS_FOLDER
    stack = folder / "null_particles" / "particles.star"
    if not stack.exists():
        density = torch.from_numpy(run.consensus)
        null_network.write_null_stack(subject.particles, subject.images, density, stack.parent, options.seed)
    # The simulated images are white, and nothing was done to them with their CTF.
    settings = _settings(subject, options) | {"invert": "no", "ctf_applied": "none"}
    still = _trained(ParticleInput(stack), folder / "null", settings)
    null = null_network.network_gain(still.metrics)
    if null is None:
        yield not_run(null_network.NAME, "The training on particles that do not move did not complete an epoch.")
        return
    _, held_out = split_held_out(subject.images.part.images, subject.config.seed)
    yield null_network.network_outcome(observed, null, len(held_out))
    count, of_null = (0 if each.parts is None else len(each.parts) for each in (run, still))
    yield parts.null_outcome(count, of_null)


def _settings(subject: Validated, options: ValidateOptions) -> dict[str, Any]:
    settings = subject.config.model_dump(mode="json") | _masks(subject)
    if options.preset == "same":
        return settings
    # The seed, the device and how images are read are the run's; how long it trains is the preset's.
    kept = {name: settings[name] for name in ImageSettings.model_fields}
    return load_config("quick", overrides=kept | _masks(subject)).model_dump(mode="json")


def _masks(subject: Validated) -> dict[str, Any]:
    """The masks that were given to the run, as it keeps them."""
    folder = None if subject.run is None else RunPaths(subject.run.path).volumes
    kept = {} if folder is None else {name: folder / f"{file}.mrc" for name, file in KEPT_AS.items()}
    return {"ignore": None} | {name: str(path) if path.is_file() else None for name, path in kept.items()}


def _trained(source: ParticleInput, out: Path, settings: dict[str, Any]) -> Run:
    """A run in this folder: continued, or just opened, where it is already there."""
    resume = out.exists()
    train(source, out, resume=resume, overrides=None if resume else settings)
    return open_run(out)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = read_json(path, "delete it and validate again")
    return found if found.get("format") == 1 else {}


def _rounded(value: Any) -> Any:
    """Floats to four digits: a report has no use for more."""
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
