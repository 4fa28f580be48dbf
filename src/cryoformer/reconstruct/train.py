"""A whole run: consensus -> occupancy -> linear subspace -> CryoFormer, coarse to fine -> latents.

Every stage leaves a checkpoint when it is done, training also while it goes on; a run that was killed continues from
the last one with ``--resume``.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from torch import Tensor

from cryoformer import __version__
from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume
from cryoformer.particles import Particles, check_images
from cryoformer.reconstruct.checkpoint import flatten_optimizer, load_tensors, save_tensors, unflatten_optimizer
from cryoformer.reconstruct.config import Stage, TrainConfig, load_config
from cryoformer.reconstruct.consensus import Consensus, reconstruct_consensus, wiener_backprojection
from cryoformer.reconstruct.density_model import ConformationModel
from cryoformer.reconstruct.generalisation import split_held_out
from cryoformer.reconstruct.images import FourierImages, Images
from cryoformer.reconstruct.latents import refine_latents
from cryoformer.reconstruct.linear import LinearStage, fit_linear_stage
from cryoformer.reconstruct.particle_input import ParticleInput, write_rows
from cryoformer.reconstruct.progress import RunLog
from cryoformer.reconstruct.run_directory import RunPaths, model_from_tensors, model_tensors
from cryoformer.reconstruct.streaming import prepare_images
from cryoformer.reconstruct.training import StageState, StageTrainer, StepReport, conditioning, mean_density

# Latents are read at this box at most: beyond it they gain little and cost much (docs/theory.md).
LATENT_BOX = 48
# A decoder whose density varies by less than this share of its own spread ignores its latents.
LEAST_CONDITIONING = 0.02
# Of the time left when training begins, what the last base and latents may take.
CLOSING_SHARE = 0.15
# Seconds per image of base and latents over those of a training step: one forward pass instead of a training step's
# three, and the latents about as much again.
CLOSING_COST = 0.8


def train(
    source: ParticleInput,
    out: Path,
    *,
    recipe: Path | None = None,
    preset: str = "default",
    max_minutes: float | None = None,
    resume: bool = False,
    overrides: dict[str, Any] | None = None,
) -> str:
    """Reconstruct the particles of ``source`` into the folder ``out``; returns one sentence on how it ended.

    Raises:
        InputError: anything wrong with files or settings, before anything is written.
    """
    paths = RunPaths(Path(out))
    if resume:
        config, source = _settings_of(paths, source)
        if paths.checkpoint("model").exists():
            return f"{out}: this run is finished; nothing to do"
        particles, rows = source.load_again(paths.rows), None
    else:
        config = load_config(preset, recipe, overrides)
        if paths.root.exists() and (not paths.root.is_dir() or any(paths.root.iterdir())):
            raise InputError(f"{out}: exists and is not empty: choose another folder, or continue with --resume")
        particles, rows = source.load(config.seed)
    check_images(particles)
    if not resume:
        paths.root.mkdir(parents=True, exist_ok=True)
        paths.write_config(_facts(source, preset, max_minutes, config))
    if rows is not None:
        write_rows(rows, paths.rows)
    return _Reconstruction(paths, particles, config, max_minutes).run()


def _settings_of(paths: RunPaths, given: ParticleInput) -> tuple[TrainConfig, ParticleInput]:
    facts = paths.read_config()
    recorded = ParticleInput.from_facts(facts)
    if recorded.particles != given.particles.resolve():
        raise InputError(
            f"{paths.root}: this run is of {recorded.particles}, not of {given.particles}: give that file, or a new "
            "--out"
        )
    # Images may have moved since; everything else is as it was.
    return load_config("default", None, facts["settings"]), replace(recorded, datadir=given.datadir or recorded.datadir)


def _facts(source: ParticleInput, preset: str, max_minutes: float | None, config: TrainConfig) -> dict[str, Any]:
    return {
        "cryoformer": __version__,
        "command": " ".join(["cryoformer", *sys.argv[1:]]),
        **source.facts(),
        "preset": preset,
        "max_minutes": max_minutes,
        "settings": config.model_dump(mode="json"),
    }


class _Reconstruction:
    """The stages of one run, in order, each loaded where it is already done."""

    def __init__(self, paths: RunPaths, particles: Particles, config: TrainConfig, max_minutes: float | None) -> None:
        self.paths, self.particles, self.config = paths, particles, config
        device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        accelerator, _, number = device.partition(":")
        devices: Any = [int(number)] if number else config.devices
        try:
            self.fabric = Fabric(accelerator=accelerator, devices=devices, precision="32-true")
        except (RuntimeError, ValueError) as error:
            raise InputError(f"device {config.device!r} cannot be used: {error}") from None
        self.fabric.launch()
        self.main = self.fabric.is_global_zero
        self.budget = None if max_minutes is None else 60.0 * max_minutes
        seed_everything(config.seed, verbose=False)

    def run(self) -> str:
        """All stages."""
        before = 0.0
        if self.paths.checkpoint("training").exists():
            before = float(load_tensors(self.paths.checkpoint("training"))[1]["elapsed"])
        with RunLog(self.paths.metrics if self.main else None, before) as log:
            self.log = log
            images = self._prepare()
            consensus = self._consensus(images)
            images = images.with_noise(consensus.noise_power)
            linear = self._linear(images, consensus)
            model, latents, covariance = self._train(images, consensus, linear)
            spread = conditioning(model, model.points(model.box), latents)
            self._finish(model, latents, covariance, spread)
            log.record(stage="done", conditioning=spread)
            log.say(f"done in {log.elapsed / 60:.1f} min")
        return self._verdict(spread)

    def _prepare(self) -> Images:
        self.log.stage("reading images")
        count, seen = len(self.particles), [0]

        def progress(rows: int) -> None:
            seen[0] += rows
            self.log.advance(seen[0] / count, f"{seen[0]} of {count} images")

        cache = self.paths.root / "cache" / str(self.fabric.global_rank)
        settings = self.config
        return prepare_images(
            self.particles,
            cache,
            settings.invert,
            settings.memory_gib,
            self.fabric.device,
            settings.seed,
            progress,
            normalise=settings.normalise,
            ctf_applied=settings.ctf_applied,
        )

    def _consensus(self, images: Images) -> Consensus:
        path = self.paths.checkpoint("consensus")
        if path.exists():
            tensors, _ = load_tensors(path, images.device)
            return Consensus(**tensors)
        self.log.stage("consensus")
        consensus = reconstruct_consensus(images)
        if self.main:
            self._write_volume("consensus", consensus.volume, images)
            for number, half in enumerate(consensus.halves, start=1):
                self._write_volume(f"consensus_half{number}", half, images)
            save_tensors(path, dict(vars(consensus)), {})
        self.log.record(stage="consensus", half_map_fsc=[round(x, 4) for x in consensus.half_map_fsc.tolist()])
        return consensus

    def _linear(self, images: Images, consensus: Consensus) -> LinearStage:
        path = self.paths.checkpoint("subspace")
        if path.exists():
            return LinearStage(**load_tensors(path, images.device)[0])
        self.log.stage("linear subspace")
        rows, _ = split_held_out(len(images), self.config.seed)
        linear = fit_linear_stage(images, consensus.volume, self.config, self.log, rows.to(images.device))
        if self.main:
            self._write_volume("occupancy", linear.occupancy, images)
            self._write_volume("flexible", linear.flexible, images)
            save_tensors(path, dict(vars(linear)), {})
        return linear

    def _train(
        self, images: Images, consensus: Consensus, linear: LinearStage
    ) -> tuple[ConformationModel, Tensor, Tensor]:
        path = self.paths.checkpoint("training")
        stages = resolve_stages(self.config, images.box)
        state, optimizer = StageState(0), None
        if path.exists():
            tensors, facts = load_tensors(path, images.device)
            model = model_from_tensors(tensors, facts)
            latents, covariance = tensors["latents"], tensors["covariance"]
            state = StageState(facts["stage"], facts["step"], facts["seconds"], facts["held_out_gain"])
            optimizer = unflatten_optimizer(tensors, facts["optimizer"]) if facts["optimizer"] else None
            average = {name.removeprefix("average."): x for name, x in tensors.items() if name.startswith("average.")}
            self.log.say(f"continuing in stage {state.stage + 1} of {len(stages)} at step {state.step}")
        else:
            model = linear.new_model(consensus.local, images.pixel_size_angstrom, self.config)
            latents, covariance = linear.latents, linear.covariance
        model.network.to(images.device)

        for number in range(state.stage, len(stages)):
            stage, started = stages[number], state if number == state.stage else StageState(number)
            model.gain = torch.ones_like(model.gain)
            self.log.stage(f"training at {stage.box} pixels ({number + 1} of {len(stages)})")
            trainer = StageTrainer(model, images.crop(stage.box), latents, covariance, stage, self.config, self.fabric)
            if optimizer is not None:
                trainer.optimizer.load_state_dict(optimizer)
                trainer.average.load_state_dict(average)
                optimizer = None
            trainer.run(
                started,
                partial(self._report, trainer=trainer, latents=latents),
                partial(self._save, model=model, latents=latents, covariance=covariance, trainer=trainer),
                self._stage_budget(stages[number:], started),
            )
            trainer.finish()
            self._filter(model, trainer)
            if self.config.base and stage.box == images.box and self._time_for_base(trainer):
                self._update_base(model, images, trainer, latents, linear.occupancy)
            if self.config.refine_latents:
                latents, covariance = self._refine(model, images, latents, stage.box)
            self._save(StageState(number + 1), model, latents, covariance, None)
        return model, latents, covariance

    def _save(
        self,
        state: StageState,
        model: ConformationModel,
        latents: Tensor,
        covariance: Tensor,
        trainer: StageTrainer | None,
    ) -> None:
        """Where training stands: parameters, base, latents, and the optimiser where a stage is under way."""
        if not self.main:
            return
        tensors, facts = model_tensors(model)
        more, groups = flatten_optimizer(trainer.optimizer.state_dict()) if trainer else ({}, None)
        if trainer:
            more |= {f"average.{name}": value for name, value in trainer.average.state_dict().items()}
        tensors |= more | {"latents": latents, "covariance": covariance}
        facts |= dict(vars(state)) | {"elapsed": self.log.elapsed, "optimizer": groups}
        save_tensors(self.paths.checkpoint("training"), tensors, facts)

    def _stage_budget(self, left: list[Stage], state: StageState) -> Callable[[float], float] | None:
        """Seconds the first of these stages may take: its share, by epochs and pixels, of the time that is left.

        What comes after training (base density, latents) is set aside: a share of the time, or what it will take for
        all images as far as is known from the seconds that one takes to train on, whichever is more.
        """
        if self.budget is None:
            return None
        costs = [stage.epochs * (16**2 + stage.box**2) for stage in left]
        left_seconds, before = max(self.budget - self.log.elapsed, 1.0), state.seconds

        def allowed(seconds_per_image: float) -> float:
            # Only the last stage's pace says what the base will cost.
            known = CLOSING_COST * seconds_per_image * len(self.particles) if len(left) == 1 else 0.0
            closing = max(CLOSING_SHARE * left_seconds, known)
            return max(left_seconds - closing, 0.0) * costs[0] / sum(costs) + before

        return allowed

    def _report(self, report: StepReport, trainer: StageTrainer, latents: Tensor) -> None:
        gain = report.base_loss - report.loss
        facts = f"loss {report.loss:.5f} ({gain:+.5f} below the mean)  {report.images_per_second:.0f} images/s"
        self.log.advance(report.step / report.steps, facts)
        if report.held_out_gain is not None:
            spread = conditioning(trainer.model, trainer.points, latents)
            held_out = f"held-out log likelihood {report.held_out_gain:+.2f}"
            self.log.say(f"epoch {report.epoch + 1}: {facts}  {held_out}  conditioning {spread:.3f}")
            self.log.record(
                stage=f"train_{trainer.points.box}",
                epoch=report.epoch,
                step=report.step,
                loss=report.loss,
                base_loss=report.base_loss,
                held_out_gain=report.held_out_gain,
                images_per_second=round(report.images_per_second, 1),
                conditioning=spread,
                points=len(trainer.points.voxels),
            )

    def _time_for_base(self, trainer: StageTrainer) -> bool:
        """Whether one pass over all images still fits into the time given, with a fifth of grace."""
        if self.budget is None:
            return True
        needed = 0.5 * CLOSING_COST * trainer.seconds_per_image * len(self.particles)
        if self.log.elapsed + needed <= 1.2 * self.budget:
            return True
        self.log.say("no time for a new base density: the consensus stays the base")
        return False

    def _filter(self, model: ConformationModel, trainer: StageTrainer) -> None:
        """Hold back the shells in which the network does not generalise; those beyond the stage's box altogether."""
        found = trainer.generalisation()
        model.gain = torch.zeros_like(model.gain)
        model.gain[: len(found.gain)] = found.gain
        self.log.record(stage=f"filter_{trainer.points.box}", gain=[round(x, 3) for x in found.gain.tolist()])

    def _update_base(
        self,
        model: ConformationModel,
        images: Images,
        trainer: StageTrainer,
        latents: Tensor,
        occupancy: Tensor,
    ) -> None:
        """The base becomes the back-projection of what the network's deviations from its own mean leave.

        So what does not vary is Wiener-filtered as a whole, the network's mean included: one closed-form step.
        """
        self.log.stage("base density")
        points = trainer.points
        still = mean_density(model, points, latents)

        @torch.no_grad()
        def explained(rows: Tensor, some: FourierImages) -> Tensor:
            return model.project(points, model.decode(points, latents[rows]) - still, some)

        base = wiener_backprojection(images, explained).local(images.pixel_size_angstrom)
        model.base = base * occupancy - model.added(points, still[None])[0]

    def _refine(self, model: ConformationModel, images: Images, latents: Tensor, box: int) -> tuple[Tensor, Tensor]:
        self.log.stage("latents")
        cropped = images.crop(min(box, LATENT_BOX))
        return refine_latents(
            model, cropped, latents, self.config.latent_states, self.config.seed, lambda done: self.log.advance(done)
        )

    def _finish(self, model: ConformationModel, latents: Tensor, covariance: Tensor, spread: float) -> None:
        if not self.main:
            return
        self.paths.write_latents(latents, covariance)
        tensors, facts = model_tensors(model)
        save_tensors(self.paths.checkpoint("model"), tensors, facts | {"conditioning": spread})
        self.paths.checkpoint("training").unlink(missing_ok=True)
        shutil.rmtree(self.paths.root / "cache", ignore_errors=True)

    def _verdict(self, spread: float) -> str:
        if spread < LEAST_CONDITIONING:
            return (
                f"{self.paths.root}: finished, but the decoder ignores its latents: densities vary by {spread:.3f} of "
                "their own spread. Either the particles do not move, or the data do not show it."
            )
        root = self.paths.root
        return f"{root}: finished; see 'cryoformer analyze {root}', and 'cryoformer validate {root}' for what is chance"

    def _write_volume(self, name: str, volume: Tensor, images: Images) -> None:
        self.paths.volumes.mkdir(parents=True, exist_ok=True)
        path = self.paths.volumes / f"{name}.mrc"
        write_mrc_volume(path, volume.cpu().numpy(), images.voxel_angstrom)


def resolve_stages(config: TrainConfig, box: int) -> list[Stage]:
    """The stages for images of this box: none larger than it, the last at it (with ``full_box``), none twice."""
    stages = [stage.model_copy(update={"box": min(stage.box, box)}) for stage in config.stages]
    if config.full_box:
        stages[-1] = stages[-1].model_copy(update={"box": box})
    return [
        stage
        for stage, after in zip(stages, [*stages[1:], None], strict=True)
        if after is None or stage.box < after.box
    ]
