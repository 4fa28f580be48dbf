r"""Stage C: the network learns by the projection loss (paper eq. 5), one resolution after the other.

For image i with residual R_i = Y_i - C_i P_i b, b the static density, on the Fourier half-plane of the stage's box,

    L = mean_i sum_k w_k |R_i(k) - C_i P_i[w sigma_T(.; z_i)](k)|^2 / s^2(k)  /  number of coefficients

with the noise spectrum s^2 and the half-plane's weights w_k (Parseval). The value 1 means that only noise is left.

Images with neighbouring latents share a decoded density (:mod:`.shared_states`): z_i above is then their mean latent.

What a stage ends with is the running average of the parameters over about the last hundred steps (Polyak & Juditsky
1992): at these signal-to-noise ratios it takes off as much noise as several epochs more.

Order and learning rate depend on the step and the seed alone, so a run that was stopped at any step goes on as if it
had not been.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from lightning_fabric import Fabric
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.fourier import half_plane_weights, radii
from cryoformer.imaging.grids import crop_volume
from cryoformer.model.tiled_attention import small_operations
from cryoformer.training.encoder_inputs import EncoderInputs
from cryoformer.training.epochs import DealtNetwork, Epochs, StepImages
from cryoformer.training.held_out_filter import HeldOutFilter, held_out_filter, split_held_out
from cryoformer.training.shared_states import means
from cryoformer.training.state import TrainingState
from cryoformer.training.train_config import Stage, TrainConfig

WARM_UP_STEPS = 50
FINAL_RATE = 0.05
# A step should see this many different states, whatever its images could share.
STATES_A_BATCH = 8
# Images a step, unless the stage says it: an epoch of few images should have this many steps; of many, a step may as
# well have more images, which share states; but what it makes of each costs 4 bytes a point several times over.
STEPS_AN_EPOCH = 140
LEAST_BATCH, LARGEST_BATCH = 32, 128
POINTS_A_BATCH = 2**24
AVERAGE_DECAY = 0.99
# A stage ends early where an epoch loses more than this share of the held-out log likelihood: what it learns is noise
# (if latents are known from the start).
FALL = 0.02


@dataclass(frozen=True)
class StepReport:
    """What a step tells the log: the loss and the loss of the static density alone, of the last batch or epoch."""

    stage: int
    step: int
    steps: int
    epoch: int
    loss: float
    static_loss: float
    images_per_second: float
    held_out_gain: (
        float | None
    )  # log likelihood per held-out image over the static density alone; at the end of an epoch


class StageTrainer:
    """Trains the network at one box. ``images`` are those of that box; ``conditions`` what is read of each."""

    def __init__(
        self,
        model: ConformationModel,
        images: Images,
        conditions: EncoderInputs,
        stage: Stage,
        config: TrainConfig,
        fabric: Fabric,
    ) -> None:
        self.model, self.conditions = model, conditions
        self.stage, self.config, self.fabric = stage, config, fabric
        self.points: DecodedPoints = model.points(images.box)
        self.residuals = images.minus(crop_volume(model.static, images.box))
        self.rows, self.held_out = (rows.to(images.device) for rows in split_held_out(images.part.images, config.seed))
        self.processes = images.part.processes
        self.batch = stage.batch or images_a_step(len(self.rows), len(self.points.voxels))
        self.images_per_state = 1
        if model.shares_states:
            most = max(1, self.batch // STATES_A_BATCH)
            self.images_per_state = config.images_per_state or conditions.images_per_state(self.rows, most)
        self.epochs = Epochs(self.rows, self.batch, conditions, self.images_per_state, images.part)
        self.steps_per_epoch = self.epochs.steps
        self.steps = max(1, round(stage.epochs * self.steps_per_epoch))
        self.weights = loss_weights(images)
        self.coefficients = coefficient_count(images)
        self.seconds_per_image = 0.0
        self.time_is_up = False
        groups = model.network.parameter_groups()
        latents = [] if (learnt := conditions.learnt) is None else [learnt]
        optimizer = torch.optim.Adam(
            [
                {"params": groups["tables"], "lr": config.table_learning_rate},
                {"params": groups["networks"], "lr": config.learning_rate},
                *({"params": [table], "lr": config.latent_learning_rate} for table in latents),
            ],
            betas=(0.9, 0.99),
            eps=1e-15,
            fused=True,
        )
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self.average = copy.deepcopy(model.network).requires_grad_(False)
        self.network, self.optimizer = fabric.setup(model.stage_network(self.points), optimizer)
        # Inputs that all know may be decoded anywhere; others where the image is.
        self.deals = self.processes.size > 1 and model.shares_states and conditions.latents is not None

    @small_operations()
    def run(
        self,
        state: TrainingState,
        report: Callable[[StepReport], None],
        checkpoint: Callable[[], None],
        budget: Callable[[float], float] | None = None,
    ) -> None:
        """Train from ``state`` to the end of the stage, until held-out images lose by it, or the budget is spent.

        ``budget`` gives the seconds this stage may take for the seconds that an image takes. With one, the learning
        rate falls with whatever runs out first, steps or time, so that the stage always ends at the small rate.
        Afterwards ``time_is_up`` says whether it was the time.
        """
        started, before = time.monotonic(), state.seconds
        last_saved, epoch_started = started, started
        losses, static_losses, seen, trained = [], [], 0, 0
        batches = self.residuals.batches(self.epochs.rows_here(self.config.seed, state.stage, state.step))
        while True:
            spent = time.monotonic() - started + before
            per_image = (time.monotonic() - started) / trained if trained else 0.0
            done = max(state.step / self.steps, self._of_first(spent / max(budget(per_image), 1e-9)) if budget else 0.0)
            if done >= 1.0:
                self.time_is_up = state.step < self.steps
                break
            _, residuals = next(batches)
            epoch, place = divmod(state.step, self.steps_per_epoch)
            images = self.epochs.plan(self.config.seed, state.stage, epoch)[place]
            loss, static_loss = self._step(images, residuals, self._rate(state.step, done))
            self._average(state.step)
            losses.append(loss)
            static_losses.append(static_loss)
            seen += len(images.rows)
            trained += len(images.rows)
            state.step += 1
            state.seconds = time.monotonic() - started + before
            ended = state.step % self.steps_per_epoch == 0 or state.step == self.steps
            gain = self.held_out_filter().log_likelihood if ended else None
            now = time.monotonic()
            kept = slice(None) if ended else slice(-20, None)
            report(
                StepReport(
                    stage=state.stage,
                    step=state.step,
                    steps=self.steps,
                    epoch=(state.step - 1) // self.steps_per_epoch,
                    loss=_mean(losses[kept]),
                    static_loss=_mean(static_losses[kept]),
                    images_per_second=seen / max(now - epoch_started, 1e-9),
                    held_out_gain=gain,
                )
            )
            if ended:
                losses, static_losses, seen, epoch_started = [], [], 0, now
            self.seconds_per_image = (now - started) / trained
            if gain is not None:
                falls = state.held_out_gain is not None and gain < state.held_out_gain - FALL * abs(state.held_out_gain)
                if falls and self.conditions.known:
                    break
                state.held_out_gain = gain
            if now - last_saved > self.config.checkpoint_seconds:
                checkpoint()
                last_saved = time.monotonic()

    def finish(self) -> None:
        """Put the averaged parameters into the model."""
        self.model.network.load_state_dict(self.average.state_dict())

    def held_out_filter(self) -> HeldOutFilter:
        """How the averaged network does on the held-out images."""
        averaged = copy.copy(self.model)
        averaged.network = self.average
        self.conditions.read_held_out(averaged, self.residuals, self.held_out)
        return held_out_filter(averaged, self.points, self.residuals, self.conditions, self.held_out, self.batch)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))
        for average, current in zip(self.average.parameters(), self.model.network.parameters(), strict=True):
            average.lerp_(current, 1 - decay)

    def _of_first(self, number: float) -> float:
        """The first process decides when the time is up."""
        return self.processes.add_numbers(number if self.processes.first else 0.0)[0]

    def _rate(self, step: int, done: float) -> float:
        """Warm-up, then half a cosine down to FINAL_RATE of the full rate."""
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        return warm * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))

    def _step(self, images: StepImages, residuals: FourierImages, rate: float) -> tuple[float, float]:
        """One step; the loss of the batch, and that of the static density alone."""
        for group, full in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = full * rate
        residual = residuals.coefficients
        loss = self._loss(residual - self._predicted(images, residuals), images)
        total = loss
        if (penalty := self.conditions.penalty(images.rows)) is not None:
            # The loss is 2 / M of minus a log likelihood, M coefficients an image; so is the prior's share.
            total = loss + 2.0 * penalty / self.coefficients
        with torch.no_grad():
            static = self._loss(residual, images)
        whole, whole_static = self.processes.add_numbers(float(loss.detach()), float(static))
        if not math.isfinite(whole):
            raise FloatingPointError(f"the loss is not finite at box {self.points.box}: lower learning_rate")
        self.optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over processes, but the loss is a sum.
        self.fabric.backward(total if self.processes.size == 1 else total * self.processes.size)
        self.optimizer.step()
        return whole, whole_static

    def _predicted(self, images: StepImages, residuals: FourierImages) -> Complex[Tensor, "l d h"]:
        """What the network says the images here show."""
        if not self.deals:
            rows = images.rows if self.processes.size == 1 else images.here + self.residuals.part.start
            inputs, shared = self.conditions.inputs(rows), None
            if self.images_per_state > 1:
                inputs, shared = means(inputs, images.state, int(images.state[-1]) + 1), images.state
            return self.model.predict(self.points, inputs, residuals, self.network, shared)
        inputs = means(self.conditions.inputs(images.rows), images.state, int(images.state[-1]) + 1)
        dealt = DealtNetwork(self.network, self.processes)
        return self.model.predict(self.points, inputs, residuals, dealt, images.state[images.place])

    def _loss(self, residual: Complex[Tensor, "l d h"], images: StepImages) -> Float[Tensor, ""]:
        """This process's share of the loss of a batch."""
        loss = (torch.view_as_real(residual).square().sum(-1) * self.weights).sum() / len(images.rows)
        return loss if images.counts else 0.0 * loss


def images_a_step(images: int, points: int) -> int:
    """A power of two, by the number of images trained on and of points decoded."""
    wanted = max(1, min(images // STEPS_AN_EPOCH, POINTS_A_BATCH // points, LARGEST_BATCH))
    return max(LEAST_BATCH, 2 ** (wanted.bit_length() - 1))


def loss_weights(images: Images) -> Float[Tensor, "d h"]:
    """w_k / s^2(k) inside the Nyquist circle, over the number of coefficients there."""
    weights = _plane_weights(images)
    return weights / images.noise_deviation().square() / weights.sum()


def coefficient_count(images: Images) -> float:
    """Coefficients of the whole plane inside the Nyquist circle: as many real numbers as an image has there."""
    return float(_plane_weights(images).sum())


def _plane_weights(images: Images) -> Float[Tensor, "d h"]:
    inside = radii(images.box, images.device) <= images.box // 2 - 1
    return half_plane_weights(images.box, images.device) * inside


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)
