"""Stage C of a run: the network, one resolution after the other, and what follows each: filter, base, latents."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cryoformer.checkpoint import flatten_optimizer, load_tensors, save_tensors, unflatten_optimizer
from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.factory import model_from_tensors, model_tensors
from cryoformer.decode.latent_posterior import LATENT_BOX, refine_latents, uncertainty_about
from cryoformer.images.fourier_images import Images
from cryoformer.linear.consensus import Consensus
from cryoformer.progress import RunLog
from cryoformer.training.conditioning import conditioning
from cryoformer.training.encoder_inputs import EncoderInputs, FreeLatents, ImageInputs, KnownLatents
from cryoformer.training.encoder_latents import encoder_latents
from cryoformer.training.shared_states import MOST_IMAGES_PER_STATE
from cryoformer.training.start import Start
from cryoformer.training.static_density import static_density
from cryoformer.training.train_config import Stage, TrainConfig, resolve_stages
from cryoformer.training.trainer import StageState, StageTrainer, StepReport

# Of the time left when training begins, what the last base and latents may take: at least and at most.
CLOSING_SHARE, CLOSING_MOST = 0.15, 0.5
# Seconds per image of base and latents over those of a training step: one forward pass instead of a training step's
# three, and the latents about as much again.
CLOSING_COST = 0.8


@dataclass
class Trained:
    """The model, and the latents of all images as far as they are known."""

    model: ConformationModel
    latents: Tensor | None
    covariance: Tensor | None


class CoarseToFine:
    """Trains the stages in order, and leaves its state in the folder ``checkpoints`` as it goes.

    Attributes:
        cut_short: what a time limit took away, in words; empty where it took nothing.
        goes_on: the checkpoint stays, because the last stage is one of those: ``--resume`` goes on with it.
    """

    def __init__(
        self, checkpoints: Path, config: TrainConfig, fabric: Fabric, log: RunLog, budget: float | None
    ) -> None:
        self.checkpoints, self.config, self.fabric, self.log, self.budget = checkpoints, config, fabric, log, budget
        self.cut_short: list[str] = []
        self.goes_on = False

    def train(self, images: Images, consensus: Consensus, start: Start) -> Trained:
        """All stages that are not done yet, on from the checkpoint where there is one."""
        checkpoint = self.checkpoints / "training.safetensors"
        stages = resolve_stages(self.config, images.box)
        self.images, self.start = images, start
        state, resumed = StageState(0), None
        if checkpoint.exists():
            trained, state, resumed, self.cut_short = _read_checkpoint(checkpoint, images.device)
            self.log.say(f"continuing in stage {state.stage + 1} of {len(stages)} at step {state.step}")
        else:
            model = start.model(consensus.local, images.pixel_size_angstrom, self.config)
            trained = Trained(model, start.latents, start.covariance)
        trained.model.network.to(images.device)
        for number in range(state.stage, len(stages)):
            here = state if number == state.stage else StageState(number)
            self._stage(trained, here, stages, resumed)
            resumed = None
            if not self.goes_on:
                self._save(StageState(number + 1), trained, None)
        return trained

    def _stage(self, trained: Trained, state: StageState, stages: list[Stage], resumed: "_TrainerState | None") -> None:
        stage, model = stages[state.stage], trained.model
        last = state.stage == len(stages) - 1
        model.gain = torch.ones_like(model.gain)
        self.log.stage(f"training at {stage.box} pixels ({state.stage + 1} of {len(stages)})")
        conditions = self._conditions(trained)
        trainer = StageTrainer(model, self.images.crop(stage.box), conditions, stage, self.config, self.fabric)
        if resumed is not None:
            trainer.optimizer.load_state_dict(resumed.optimizer)
            trainer.average.load_state_dict(resumed.average)
        trainer.run(
            state,
            partial(self._report, trainer=trainer),
            partial(self._save, trained=trained, trainer=trainer),
            self._stage_budget(stages[state.stage :], state),
        )
        if last:
            self._save(state, trained, trainer)
        if trainer.time_is_up:
            done = state.step / trainer.steps_per_epoch
            self._was_cut(f"{done:.1f} of {stage.epochs:g} epochs at {stage.box} pixels", last)
        trainer.finish()
        self._filter(model, trainer)
        trained.latents = conditions.latents
        if isinstance(conditions, ImageInputs) and last:
            self._take_latents(trained, conditions)
        if trained.latents is None:
            return
        if self.config.base and stage.box == self.images.box and self._time_for_base(trainer):
            self._update_base(model, trainer, trained.latents)
        if self.config.refine_latents:
            trained.latents, trained.covariance = self._refine(model, trained.latents, stage.box)
        elif last and not self.start.posterior:
            trained.covariance = uncertainty_about(trained.latents, *self._refine(model, trained.latents, stage.box))

    def _was_cut(self, what: str, last: bool) -> None:
        """The time limit took something away."""
        self.cut_short.append(what)
        self.goes_on = self.goes_on or last
        self.log.say(f"the time is up (--max-minutes): {what}")

    def _conditions(self, trained: Trained) -> EncoderInputs:
        config = trained.model.network.config
        if config.encoder == "mlp":
            return ImageInputs(self.images, config.image_box or self.images.box)
        assert trained.latents is not None
        if self.config.latents == "free":
            return FreeLatents(trained.latents, self.config.seed)
        return KnownLatents(trained.latents, trained.covariance)

    def _take_latents(self, trained: Trained, conditions: ImageInputs) -> None:
        """The image encoder has done its work: from here on, a latent stands for what it says of an image."""
        model = trained.model
        self.log.stage("latents of the image encoder")
        if self.fabric.is_global_zero:
            encoder = model.network.encoder.state_dict()
            facts = {"model": dict(vars(model.network.config))}
            save_tensors(self.checkpoints / "image_encoder.safetensors", encoder, facts)
        found = encoder_latents(model.network, conditions, self.config.subspace.dimension, self.log.advance)
        model.network, trained.latents = found.network, found.latents
        dimension = found.latents.shape[1]
        self.log.record(stage="encoder_latents", dimension=dimension, share=found.share)
        self.log.say(f"{dimension} principal components hold {100 * found.share:.1f} % of the variance of F_D")

    def _save(self, state: StageState, trained: Trained, trainer: StageTrainer | None) -> None:
        """Where training stands: parameters, base, latents, and the optimiser where a stage is under way."""
        if not self.fabric.is_global_zero:
            return
        tensors, facts = model_tensors(trained.model)
        more, groups = flatten_optimizer(trainer.optimizer.state_dict()) if trainer else ({}, None)
        if trainer:
            more |= {f"average.{name}": value for name, value in trainer.average.state_dict().items()}
        latents = trainer.conditions.latents if trainer else trained.latents
        more |= {} if latents is None else {"latents": latents}
        more |= {} if trained.covariance is None else {"covariance": trained.covariance}
        facts |= dict(vars(state)) | {"elapsed": self.log.elapsed, "optimizer": groups, "cut_short": self.cut_short}
        save_tensors(self.checkpoints / "training.safetensors", tensors | more, facts)

    def _stage_budget(self, left: list[Stage], state: StageState) -> Callable[[float], float] | None:
        """Seconds the first of these stages may take: its share, by epochs and pixels, of the time that is left.

        What comes after training (base density, latents) is set aside: a share of the time, or, if there is a base,
        what it will take for all images as far as is known from the seconds that one takes to train on, whichever is
        more. Half of the time is for training in any case: where a base would take longer, the consensus stays.
        """
        if self.budget is None:
            return None
        costs = [stage.epochs * (16**2 + stage.box**2) for stage in left]
        left_seconds, before = max(self.budget - self.log.elapsed_here, 1.0), state.seconds

        def allowed(seconds_per_image: float) -> float:
            # Only the last stage's pace says what the base will cost.
            known = CLOSING_COST * seconds_per_image * len(self.images) if len(left) == 1 and self.config.base else 0.0
            closing = min(max(CLOSING_SHARE * left_seconds, known), CLOSING_MOST * left_seconds)
            return max(left_seconds - closing, 0.0) * costs[0] / sum(costs) + before

        return allowed

    def _report(self, report: StepReport, trainer: StageTrainer) -> None:
        gain = report.base_loss - report.loss
        facts = f"loss {report.loss:.5f} ({gain:+.5f} below the mean)  {report.images_per_second:.0f} images/s"
        self.log.advance(report.step / report.steps, facts)
        if report.held_out_gain is not None:
            spread = conditioning(trainer.model, trainer.points, trainer.conditions)
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
        needed = 0.5 * CLOSING_COST * trainer.seconds_per_image * len(self.images)
        if self.log.elapsed_here + needed <= 1.2 * self.budget:
            return True
        self._was_cut("no static density of its own, the consensus stands for it", True)
        return False

    def _filter(self, model: ConformationModel, trainer: StageTrainer) -> None:
        """Hold back the shells in which the network does not generalise; those beyond the stage's box altogether."""
        found = trainer.held_out_filter()
        model.gain = torch.zeros_like(model.gain)
        model.gain[: len(found.gain)] = found.gain
        self.log.record(stage=f"filter_{trainer.points.box}", gain=[round(x, 3) for x in found.gain.tolist()])

    def _update_base(self, model: ConformationModel, trainer: StageTrainer, latents: Tensor) -> None:
        self.log.stage("base density")
        shared = self._images_per_base_state(model, trainer)
        occupancy, seed = self.start.occupancy, self.config.seed
        model.base = static_density(self.images, model, trainer.points, latents, occupancy, shared, seed)

    def _images_per_base_state(self, model: ConformationModel, trainer: StageTrainer) -> int:
        """As many as latents allow: here no batch needs many states."""
        if self.config.images_per_state or not model.shares_states:
            return trainer.images_per_state
        # Each half of the images decodes a cell for itself.
        return trainer.conditions.images_per_state(torch.cat(self.images.every()), 2 * MOST_IMAGES_PER_STATE)

    def _refine(self, model: ConformationModel, latents: Tensor, box: int) -> tuple[Tensor, Tensor]:
        self.log.stage("latents")
        cropped = self.images.crop(min(box, LATENT_BOX))
        return refine_latents(
            model, cropped, latents, self.config.latent_states, self.config.seed, lambda done: self.log.advance(done)
        )


@dataclass(frozen=True)
class _TrainerState:
    """What a stage under way has beside parameters."""

    optimizer: dict[str, Any]
    average: dict[str, Tensor]


def _read_checkpoint(path: Path, device: torch.device) -> tuple[Trained, StageState, _TrainerState | None, list[str]]:
    tensors, facts = load_tensors(path, device)
    trained = Trained(model_from_tensors(tensors, facts), tensors.get("latents"), tensors.get("covariance"))
    state = StageState(facts["stage"], facts["step"], facts["seconds"], facts["held_out_gain"])
    cut_short = list(facts.get("cut_short", []))
    if not facts["optimizer"]:
        return trained, state, None, cut_short
    average = {name.removeprefix("average."): x for name, x in tensors.items() if name.startswith("average.")}
    return trained, state, _TrainerState(unflatten_optimizer(tensors, facts["optimizer"]), average), cut_short
