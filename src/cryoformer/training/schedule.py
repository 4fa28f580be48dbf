"""Stage C of a run: the network at one resolution after the other, each followed by filter, static density, latents."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cryoformer.checkpoint import save_tensors
from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.latent_posterior import LATENT_BOX, refine_latents, uncertainty_about
from cryoformer.images.fourier_images import Images
from cryoformer.linear.consensus import Consensus
from cryoformer.progress import RunLog
from cryoformer.training.conditioning import conditioning
from cryoformer.training.encoder_inputs import EncoderInputs, FreeLatents, ImageInputs, KnownLatents
from cryoformer.training.encoder_latents import encoder_latents
from cryoformer.training.orientation import in_memory, pretrain, read_poses
from cryoformer.training.shared_states import MOST_IMAGES_PER_STATE
from cryoformer.training.start import Start
from cryoformer.training.state import TrainingState
from cryoformer.training.static_density import static_density
from cryoformer.training.train_config import Stage, TrainConfig, resolve_stages
from cryoformer.training.trainer import StageTrainer, StepReport

# Of the time left when training begins, what the last static density and latents may take: at least and at most.
CLOSING_SHARE, CLOSING_MOST = 0.15, 0.5
# Seconds per image of static density and latents over those of a training step: one forward pass instead of its
# three, and the latents about as much again.
CLOSING_COST = 0.8


class CoarseToFine:
    """Trains the stages in order, and leaves its state in the folder ``checkpoints`` as it goes."""

    def __init__(
        self, checkpoints: Path, config: TrainConfig, fabric: Fabric, log: RunLog, budget: float | None
    ) -> None:
        self.checkpoints, self.config, self.fabric, self.log, self.budget = checkpoints, config, fabric, log, budget

    def train(self, images: Images, consensus: Consensus, start: Start) -> TrainingState:
        """All stages that are not done yet, on from the checkpoint where there is one."""
        stages = resolve_stages(self.config, images.box)
        self.images, self.start = images, start
        done = images.part.processes.of_first(self._checkpoint.exists())
        if done:
            self.state = TrainingState.load(self._checkpoint, images.device)
            self.log.say(f"continuing in stage {self.state.stage + 1} of {len(stages)} at step {self.state.step}")
        else:
            model = start.model(consensus.local, images.pixel_size_angstrom, self.config)
            self.state = TrainingState(model, start.latents, start.covariance)
        self.state.model.network.to(images.device)
        if not done:
            self._pretrain()
        for number in range(self.state.stage, len(stages)):
            self._stage(stages[number:], number, len(stages))
            if not self.state.goes_on:
                self.state.begin(number + 1)
                self._save()
        return self.state

    def _pretrain(self) -> None:
        """The orientation encoder, where there is one, on the poses given."""
        encoder = self.state.model.network.orientation
        if encoder is None:
            return
        conditions = self._conditions()
        assert isinstance(conditions, ImageInputs)
        self.log.stage("orientation encoder")
        epochs, error = pretrain(encoder, conditions, in_memory(self.images), self.config.seed, self.log.advance)
        self.log.record(stage="orientation", epochs=epochs, error=round(error, 4))
        self.log.say(f"orientation encoder: {epochs} epochs on the poses given, mean squared error {error:.3f}")

    def _stage(self, left: list[Stage], number: int, count: int) -> None:
        """The first of the stages that are left."""
        stage, state, model = left[0], self.state, self.state.model
        model.gain = torch.ones_like(model.gain)
        self.log.stage(f"training at {stage.box} pixels ({number + 1} of {count})")
        conditions = self._conditions()
        trainer = StageTrainer(model, self.images.crop(stage.box), conditions, stage, self.config, self.fabric)
        if state.optimizer is not None and state.average is not None:
            trainer.optimizer.load_state_dict(state.optimizer)
            trainer.average.load_state_dict(state.average)
        trainer.run(
            state,
            partial(self._report, trainer=trainer),
            partial(self._save, trainer=trainer),
            self._stage_budget(left),
        )
        if len(left) == 1:
            self._save(trainer)
        if trainer.time_is_up:
            done = state.step / trainer.steps_per_epoch
            self._was_cut(f"{done:.1f} of {stage.epochs:g} epochs at {stage.box} pixels", last=len(left) == 1)
        trainer.finish()
        self._filter(model, trainer)
        state.latents = conditions.latents
        if isinstance(conditions, ImageInputs) and len(left) == 1:
            self._take_latents(conditions)
        if state.latents is None:
            return
        if self.config.base and stage.box == self.images.box and self._time_for_static_density(trainer):
            self._update_static_density(model, trainer, state.latents)
        if self.config.refine_latents:
            state.latents, state.covariance = self._refine(model, state.latents, stage.box)
        elif len(left) == 1 and not self.start.posterior:
            state.covariance = uncertainty_about(state.latents, *self._refine(model, state.latents, stage.box))

    def _was_cut(self, what: str, last: bool) -> None:
        """The time limit took something away."""
        self.state.cut_short.append(what)
        self.state.goes_on = self.state.goes_on or last
        self.log.say(f"the time is up (--max-minutes): {what}")

    def _conditions(self) -> EncoderInputs:
        config, latents = self.state.model.network.config, self.state.latents
        if config.encoder == "mlp":
            return ImageInputs(self.images, config.image_box or self.images.box)
        assert latents is not None
        if self.config.latents == "free":
            return FreeLatents(latents, self.config.seed)
        return KnownLatents(latents, self.state.covariance)

    def _take_latents(self, conditions: ImageInputs) -> None:
        """The image encoder has done its work: from here on, a latent stands for what it says of an image."""
        model = self.state.model
        self.log.stage("latents of the image encoder")
        if self.fabric.is_global_zero:
            encoder = model.network.encoder.state_dict()
            facts = {"model": dict(vars(model.network.config))}
            save_tensors(self.checkpoints / "image_encoder.safetensors", encoder, facts)
        if (orientation := model.network.orientation) is not None:
            poses = read_poses(orientation, conditions)
            save_tensors(self.checkpoints / "poses.safetensors", dict(vars(poses)), {})
            self.images = poses.applied(self.images)
        found = encoder_latents(model.network, conditions, self.config.subspace.dimension, self.log.advance)
        model.network, self.state.latents = found.network, found.latents
        dimension = found.latents.shape[1]
        self.log.record(stage="encoder_latents", dimension=dimension, share=found.share)
        self.log.say(f"{dimension} principal components hold {100 * found.share:.1f} % of the variance of F_D")

    @property
    def _checkpoint(self) -> Path:
        return self.checkpoints / "training.safetensors"

    def _save(self, trainer: StageTrainer | None = None) -> None:
        """Where training stands, with the optimiser where a stage is under way."""
        if trainer is not None:
            self.state.optimizer, self.state.average = trainer.optimizer.state_dict(), trainer.average.state_dict()
            self.state.latents = trainer.conditions.latents
        if self.fabric.is_global_zero:
            self.state.save(self._checkpoint, self.log.elapsed)

    def _stage_budget(self, left: list[Stage]) -> Callable[[float], float] | None:
        """Seconds the first of these stages may take: its share, by epochs and pixels, of the time that is left.

        What comes after training (static density, latents) is set aside: a share of the time, or, if there is a static
        density, what it will take for all images as far as is known from the seconds that one takes to train on,
        whichever is more. Half of the time is for training in any case: where that would take longer, the consensus
        stays.
        """
        if self.budget is None:
            return None
        costs = [stage.epochs * (16**2 + stage.box**2) for stage in left]
        left_seconds, before = max(self.budget - self.log.elapsed_here, 1.0), self.state.seconds

        def allowed(seconds_per_image: float) -> float:
            # Only the last stage's pace says what the static density will cost.
            every = self.images.part.total
            known = CLOSING_COST * seconds_per_image * every if len(left) == 1 and self.config.base else 0.0
            closing = min(max(CLOSING_SHARE * left_seconds, known), CLOSING_MOST * left_seconds)
            return max(left_seconds - closing, 0.0) * costs[0] / sum(costs) + before

        return allowed

    def _report(self, report: StepReport, trainer: StageTrainer) -> None:
        gain = report.static_loss - report.loss
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
                base_loss=report.static_loss,
                held_out_gain=report.held_out_gain,
                images_per_second=round(report.images_per_second, 1),
                conditioning=spread,
                points=len(trainer.points.voxels),
            )

    def _time_for_static_density(self, trainer: StageTrainer) -> bool:
        """Whether one pass over all images still fits into the time given, with a fifth of grace."""
        if self.budget is None:
            return True
        needed = 0.5 * CLOSING_COST * trainer.seconds_per_image * self.images.part.total
        if self.images.part.processes.of_first(self.log.elapsed_here + needed <= 1.2 * self.budget):
            return True
        self._was_cut("no static density of its own, the consensus stands for it", True)
        return False

    def _filter(self, model: ConformationModel, trainer: StageTrainer) -> None:
        """Hold back the shells that do not hold for held-out images; those beyond the stage's box altogether."""
        found = trainer.held_out_filter()
        model.gain = torch.zeros_like(model.gain)
        model.gain[: len(found.gain)] = found.gain
        self.log.record(stage=f"filter_{trainer.points.box}", gain=[round(x, 3) for x in found.gain.tolist()])

    def _update_static_density(self, model: ConformationModel, trainer: StageTrainer, latents: Tensor) -> None:
        self.log.stage("static density")
        shared = self._images_per_static_state(model, trainer)
        occupancy, seed = self.start.occupancy, self.config.seed
        model.static = static_density(self.images, model, trainer.points, latents, occupancy, shared, seed)

    def _images_per_static_state(self, model: ConformationModel, trainer: StageTrainer) -> int:
        """As many as latents allow: here no batch needs many states."""
        if self.config.images_per_state or not model.shares_states:
            return trainer.images_per_state
        # Each half of the images decodes a state for itself.
        every = torch.arange(self.images.part.total, device=self.images.device)
        return trainer.conditions.images_per_state(every, 2 * MOST_IMAGES_PER_STATE)

    def _refine(self, model: ConformationModel, latents: Tensor, box: int) -> tuple[Tensor, Tensor]:
        self.log.stage("latents")
        cropped = self.images.crop(min(box, LATENT_BOX))
        return refine_latents(
            model, cropped, latents, self.config.latent_states, self.config.seed, lambda done: self.log.advance(done)
        )
