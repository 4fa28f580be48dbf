"""The stages of a run: consensus -> occupancy -> PPCA -> CryoFormer, coarse to fine -> latents -> parts.

Every stage leaves a checkpoint when it is done, training also while it goes on; a run that was killed continues from
the last one with ``--resume``.
"""

import logging
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from torch import Tensor

from cryoformer import __version__
from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.communication import Processes
from cryoformer.decode.factory import model_tensors
from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume, write_npz, write_text
from cryoformer.images.fourier_images import Images
from cryoformer.images.streamed import prepare_images
from cryoformer.linear.consensus import Consensus, reconstruct_consensus
from cryoformer.linear.linear_stage import LinearStage, fit_linear_stage
from cryoformer.linear.regions import Regions, read_regions, regions_of_run, write_regions
from cryoformer.memory import needed_bytes
from cryoformer.particles import Particles
from cryoformer.parts.part_files import write_part_files
from cryoformer.parts.stage import FoundParts, PartStage
from cryoformer.poses.check import check_poses, sample_for_check
from cryoformer.progress import RunLog, time_limit
from cryoformer.run.outlier_score import DROP_ABOVE, outlier_scores
from cryoformer.run.readme import readme
from cryoformer.run.run_folder import RunPaths
from cryoformer.training.conditioning import conditioning
from cryoformer.training.encoder_inputs import KnownLatents
from cryoformer.training.held_out_filter import split_held_out
from cryoformer.training.orientation import ReadPoses
from cryoformer.training.schedule import CoarseToFine
from cryoformer.training.start import Start, ppca_start, unaided_start
from cryoformer.training.state import TrainingState
from cryoformer.training.train_config import TrainConfig

logger = logging.getLogger(__name__)

# A decoder whose density varies by less than this share of its own spread ignores its latents.
LEAST_CONDITIONING = 0.02
# Seconds that parts take over those of all before them, about: no use in beginning where they are not left.
PARTS_COST = 1.5


class Reconstruction:
    """The stages of one run, in order, each loaded where it is already done."""

    def __init__(
        self,
        paths: RunPaths,
        particles: Particles,
        config: TrainConfig,
        max_minutes: float | None,
        fabric: Fabric,
        *,
        said: Sequence[str] = (),
        log_file: Path | None = None,
    ) -> None:
        self.paths, self.particles, self.config = paths, particles, config
        self.max_minutes, self.said, self.log_file = max_minutes, said, log_file
        self.fabric, self.processes = fabric, Processes.running()
        self.main = self.processes.first
        if config.latents == "free" and self.processes.size > 1:
            raise InputError("setting latents: free latents are learnt in one process; start one (--devices 1)")
        self.budget = time_limit(max_minutes)
        seed_everything(config.seed, verbose=False)

    def run(self) -> str:
        """All stages."""
        before, self.began = 0.0, time.monotonic()
        if self.paths.checkpoint("training").exists():
            before = float(load_tensors(self.paths.checkpoint("training"))[1]["elapsed"])
        texts = [path for path in (self.paths.log, self.log_file) if path is not None and self.main]
        with RunLog(self.paths.metrics if self.main else None, before, texts, silent=not self.main) as log:
            self.log = log
            self._begin()
            most = needed_bytes(self.particles.box, self.config.components) / 2**30 + self.config.memory_gib
            log.say(f"memory of a process: up to {most:.1f} GiB, {self.config.memory_gib:g} of them for images")
            images = self._prepare()
            self.regions = self._given_regions(images)
            consensus = self._consensus(images)
            as_seen = images = images.with_noise(consensus.noise_power)
            start = self._start(images, consensus)
            if start.contrast is not None:
                images = as_seen.with_contrast(start.contrast)
            if (off := start.off_focus) is not None:
                images = images.minus_motion(off)
                # Of images that know nothing of their contrasts it is taken off as strong as they are.
                as_seen = as_seen.minus_motion(off if start.contrast is None else off.scaled(start.contrast))
            schedule = CoarseToFine(self.paths.checkpoints, self.config, self.fabric, log, self.budget)
            trained = schedule.train(images, consensus, start)
            assert trained.latents is not None
            assert trained.covariance is not None
            if self.processes.of_first(self.paths.checkpoint("poses").exists()):
                as_seen = images = self._read_poses(as_seen)
            points = trained.model.points(trained.model.box)
            spread = conditioning(trained.model, points, KnownLatents(trained.latents))
            parts = self._parts(images, trained, start)
            scores = self._outliers(as_seen, trained, parts)
            self._finish(trained, parts, spread, scores)
            log.record(stage="done", conditioning=spread, cut_short=trained.cut_short)
            log.say(f"{'cut short' if trained.cut_short else 'done'} after {log.elapsed / 60:.1f} min")
            verdict = self._verdict(spread, trained)
            log.note(verdict)
        return verdict

    def _begin(self) -> None:
        """What the log starts with, for this call."""
        self.log.note(f"# cryoformer {__version__}, {time.strftime('%Y-%m-%d %H:%M:%S')}: {shlex.join(sys.argv)}")
        for line in self.said:
            self.log.note(line)
        if self.max_minutes is not None:
            self.log.say(f"this call may take {self.max_minutes:g} minutes (--max-minutes)")

    def _prepare(self) -> Images:
        self.log.stage("reading images")
        count, seen = len(self.particles) // self.processes.size, [0]

        def progress(rows: int) -> None:
            seen[0] += rows
            self.log.advance(seen[0] / count, f"{seen[0]} of {count} images")

        cache = self.paths.cache / str(self.fabric.global_rank)
        settings = self.config.model_copy(update={"device": str(self.fabric.device)})
        return self.processes.agree(lambda: prepare_images(self.particles, cache, settings, progress, self.processes))

    def _given_regions(self, images: Images) -> Regions:
        """Masks that were given: kept in the run, which goes on with them wherever the files are by then."""
        config, pixel_size = self.config, images.pixel_size_angstrom

        def read() -> Regions:
            kept = regions_of_run(self.paths.volumes)
            given = config.mask, config.focus, config.ignore
            return kept if kept.given else read_regions(*given, images.box, pixel_size)

        regions = self.processes.agree(read)
        if self.main:
            write_regions(self.paths.volumes, regions, pixel_size)
        return regions.to(images.device)

    def _consensus(self, images: Images) -> Consensus:
        path = self.paths.checkpoint("consensus")
        if self.processes.of_first(path.exists()):
            tensors, _ = load_tensors(path, images.device)
            return Consensus(**tensors)
        self.log.stage("consensus")
        consensus = Consensus(**self.processes.tensors_of_first(dict(vars(reconstruct_consensus(images)))))
        if self.main:
            self._write_volume("consensus", consensus.volume, images)
            for number, half in enumerate(consensus.halves, start=1):
                self._write_volume(f"consensus_half{number}", half, images)
            save_tensors(path, dict(vars(consensus)), {})
        self.log.record(stage="consensus", half_map_fsc=[round(x, 4) for x in consensus.half_map_fsc.tolist()])
        self._check_poses(images)
        return consensus

    def _check_poses(self, images: Images) -> None:
        """Say so where poses are not good enough to look for motion."""
        sample = sample_for_check(images, self.config.subspace.box)
        if not self.main:
            return
        check = check_poses(sample)
        self.log.record(stage="poses", are_off=check.are_off, sentence=check.sentence)
        if check.are_off:
            logger.warning("%s: %s", self.particles.source, check.sentence)

    def _start(self, images: Images, consensus: Consensus) -> Start:
        if self.config.fits_ppca:
            return ppca_start(self._linear(images, consensus), consensus.volume, self.config, self.regions)
        self.log.say("without PPCA the network decodes all points that the consensus occupies")
        start = unaided_start(images, consensus, self.config, self.regions)
        if self.main:
            self._write_volume("occupancy", start.occupancy, images)
            # What is decoded, as whoever reads the file takes it.
            self._write_volume("flexible", start.window, images)
        return start

    def _linear(self, images: Images, consensus: Consensus) -> LinearStage:
        path = self.paths.checkpoint("subspace")
        if self.processes.of_first(path.exists()):
            return LinearStage(**load_tensors(path, images.device)[0])
        self.log.stage("linear subspace")
        rows, _ = split_held_out(images.part.images, self.config.seed)
        found = fit_linear_stage(
            images,
            consensus,
            self.config.subspace,
            self.config.seed,
            self.log,
            rows.to(images.device),
            self.regions,
        )
        linear = LinearStage(**self.processes.tensors_of_first(found.tensors()))
        if self.main:
            self._write_volume("occupancy", linear.occupancy, images)
            self._write_volume("flexible", linear.flexible, images)
            save_tensors(path, linear.tensors(), {})
        return linear

    def _parts(self, images: Images, trained: TrainingState, start: Start) -> FoundParts | None:
        """Parts that move, where they explain the images better than the network."""
        settings = self.config
        if not settings.parts or trained.goes_on:
            return None
        if (only := self._parts_only(images)) is not None:
            self.log.say(f"parts that move are looked for {only} only: there are none in this run")
            return None
        spent = time.monotonic() - self.began
        if self.budget is not None and spent + PARTS_COST * self.log.elapsed > self.budget:
            trained.cut_short.append("parts that move were not looked for")
            trained.goes_on = True
            return None
        assert trained.latents is not None
        assert trained.covariance is not None
        stage = PartStage(
            images,
            trained.model,
            trained.latents,
            trained.covariance,
            start.occupancy,
            self.regions,
            self.log,
            states=settings.latent_states,
            seed=settings.seed,
            poses=settings.part_poses,
            checkpoint=self.paths.checkpoint("parts_stage"),
        )
        return stage.run(settings.parts)

    def _parts_only(self, images: Images) -> str | None:
        """What keeps this run from having parts, if anything."""
        if self.processes.size > 1:
            return "by a single process"
        if images.device.type != "cpu":
            return "on the CPU"
        if self.config.model.domain == "fourier":
            return "in real space (model.domain)"
        if self.config.model.orientation == "encoder":
            return "at the poses given (model.orientation)"
        return None

    def _read_poses(self, images: Images) -> Images:
        """The images at the poses of the orientation encoder, which are written."""
        poses = ReadPoses(**load_tensors(self.paths.checkpoint("poses"), images.device)[0])
        shifts = self.particles.shifts_angstrom + poses.shifts.double().cpu().numpy()
        write_npz(self.paths.poses, rotations=poses.rotations.double().cpu().numpy(), shifts_angstrom=shifts)
        return poses.applied(images)

    def _outliers(self, as_seen: Images, trained: TrainingState, parts: FoundParts | None) -> Float[Tensor, " n"]:
        """How badly each image fits; ``as_seen`` know nothing of their contrasts."""
        self.log.stage("outliers")
        decoder, latents = (trained.model, trained.latents) if parts is None else (parts.density, parts.latents)
        assert latents is not None
        _, held_out = split_held_out(as_seen.part.images, self.config.seed)
        scores = outlier_scores(
            as_seen, decoder, latents, held_out.to(latents.device), self.config.seed, self.log.advance
        )
        outliers = int((scores > DROP_ABOVE).sum())
        self.log.record(stage="outliers", above=DROP_ABOVE, particles=outliers)
        share = 100 * outliers / len(scores)
        self.log.say(
            f"particles that fit worse than they should by {DROP_ABOVE:g} deviations: {outliers} ({share:.1f} %)"
        )
        return scores

    def _finish(
        self, trained: TrainingState, parts: FoundParts | None, spread: float, scores: Float[Tensor, " n"]
    ) -> None:
        if not self.main:
            return
        known = trained if parts is None else parts
        latents, covariance = known.latents, known.covariance
        assert latents is not None
        assert covariance is not None
        self.paths.write_latents(latents, covariance, scores)
        if parts is not None:
            save_tensors(self.paths.checkpoint("parts"), *parts.density.tensors())
            poses = torch.from_numpy(self.particles.rotations).float(), self.particles.shifts_angstrom
            told = parts.latents.cpu(), parts.population.cpu()
            write_part_files(self.paths.volumes, self.paths.parts, parts.density, *poses, *told)
        tensors, facts = model_tensors(trained.model)
        facts |= {"conditioning": spread, "cut_short": trained.cut_short}
        save_tensors(self.paths.checkpoint("model"), tensors, facts)
        if not trained.goes_on:
            for going in ("training", "parts_stage"):
                self.paths.checkpoint(going).unlink(missing_ok=True)
        shutil.rmtree(self.paths.cache, ignore_errors=True)
        state = (
            "It was CUT SHORT by --max-minutes; these results are preliminary:" if trained.cut_short else "Finished."
        )
        write_text(self.paths.readme, readme(str(self.paths.root), state, trained.cut_short))

    def _verdict(self, spread: float, trained: TrainingState) -> str:
        root = self.paths.root
        ignored = (
            f"the decoder ignores its latents: densities vary by {spread:.3f} of their own spread. Either the "
            "particles do not move, or the data do not show it."
        )
        if trained.cut_short:
            what = "; ".join(trained.cut_short)
            sentences = [f"{root}: CUT SHORT by --max-minutes: {what}. These results are preliminary."]
            if spread < LEAST_CONDITIONING:
                sentences.append(f"So far {ignored}")
            if trained.goes_on:
                again = ["cryoformer", "train", str(self.particles.source), "--out", str(root), "--resume"]
                sentences.append(f"Go on with: {shlex.join(again)}")
            return " ".join(sentences)
        if spread < LEAST_CONDITIONING:
            return f"{root}: finished, but {ignored}"
        return f"{root}: finished; see 'cryoformer analyze {root}', and test it with 'cryoformer validate {root}'"

    def _write_volume(self, name: str, volume: Tensor, images: Images) -> None:
        self.paths.volumes.mkdir(parents=True, exist_ok=True)
        path = self.paths.volumes / f"{name}.mrc"
        write_mrc_volume(path, volume.cpu().numpy(), images.voxel_angstrom)
