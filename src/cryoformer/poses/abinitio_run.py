"""From particles without poses to the same file with poses, a map, and what was found on the way."""

import math
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from cryoformer import __version__
from cryoformer.device import usable_device
from cryoformer.errors import InputError
from cryoformer.files import check_output, read_json, read_mrc_volume, write_json, write_mrc_volume, write_npz
from cryoformer.formats.particle_file import ParticleFile
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.imaging.fsc import resolution
from cryoformer.linear.consensus import Consensus, reconstruct_consensus
from cryoformer.memory import check_memory
from cryoformer.particles import Particles, check_images
from cryoformer.poses.abinitio import AbInitio, Findings
from cryoformer.poses.map_alignment import MIRROR
from cryoformer.poses.rounds import Refinement, refine_poses
from cryoformer.poses.symmetry import rotation_group
from cryoformer.progress import RunLog, time_limit

RECORD, POSTERIORS = "abinitio.json", "poses.npz"
MAP, HALF_MAPS = "map.mrc", ("half_map_1.mrc", "half_map_2.mrc")
LEAST_IMAGES = 200
# Share of a time budget after which no other round of refinement is begun.
ROUNDS_SHARE = 0.8


def find_poses(
    source: ParticleInput,
    out: Path,
    settings: ImageSettings,
    symmetry: str = "C1",
    max_minutes: float | None = None,
    flip: bool = False,
) -> str:
    """Poses and a map from the images of ``source`` alone, into the folder ``out``; one sentence on what was found.

    Poses that the file has are not looked at. The folder gets the particle file in its own format with poses,
    ``map.mrc`` and two half maps, ``poses.npz`` (``rotations``, ``shifts_angstrom``, and ``covariance`` of turn and
    shift) and ``abinitio.json``; without structure only the last. A call that was stopped goes on where it stood.

    Args:
        symmetry: point group, C1, C2, .., D2, D3, .., T, O or I; its highest axis comes to lie along z.
        max_minutes: time after which nothing else is tried.
        flip: write the other hand, which the images cannot tell from the first; of a folder that is finished, too.

    Raises:
        InputError: anything wrong with the files, or a folder that holds something else.
    """
    usable_device(settings.device)
    group, seconds = rotation_group(symmetry), time_limit(max_minutes)
    check_output(out)
    listed = source.open()
    read = listed.read(require_poses=False)
    options = {"symmetry": symmetry, "max_minutes": max_minutes}
    asked = {**settings.model_dump(mode="json"), **options, "fingerprint": read.fingerprint}
    earlier, particles = _earlier(out, asked), without_poses(read)
    target = listed.posed_path(out)
    if earlier.get("finished"):
        return _again(earlier, particles, listed, out, flip)
    if len(particles) < LEAST_IMAGES:
        raise InputError(f"{particles.source}: {len(particles)} images are too few to find poses from; give more")
    check_memory(particles.box, settings.device)
    check_output(out, 60 * particles.box**3)
    check_images(particles, settings.normalise)
    facts: dict[str, Any] = {"input": source.facts(), "asked": asked}
    write_json(out / RECORD, facts | {"finished": False})
    with RunLog(None, texts=[out / "log.txt"]) as log:
        began, limit = time.monotonic(), seconds or math.inf

        def over(share: float) -> bool:
            return time.monotonic() - began > share * limit

        findings = Findings.at(out / "abinitio.safetensors")
        if not findings.complete:
            log.stage("reading images")
            images = prepare_images(particles, out / "cache", settings)
            AbInitio(images, findings, settings.seed, log, symmetry, over).run()
            del images
        facts |= {"finished": True, "cryoformer": __version__, **findings.facts, "said": findings.sentence}
        if not findings.has_structure:
            write_json(out / RECORD, facts)
            _clean(out)
            return f"{particles.source}: {findings.sentence}"
        posed = _posed(particles, findings)
        found = refine_poses(
            posed,
            settings,
            out / "cache",
            out / "refinement.safetensors",
            log,
            group,
            lambda: over(ROUNDS_SHARE),
            independent=False,
        )
        posed = found.kept.applied(posed)
        log.stage("the map at the poses found")
        images = prepare_images(posed, out / "cache", settings)
        consensus = reconstruct_consensus(images, group)
        log.say(f"done in {log.elapsed / 60:.1f} min")
    facts |= _refined(found, consensus, images.pixel_size_angstrom) | {"minutes": log.elapsed / 60, "flipped": flip}
    _write_maps(out, consensus, images.pixel_size_angstrom, flip)
    _write_posed(posed, found.kept.covariance.numpy(), listed, out, flip)
    write_json(out / RECORD, facts)
    _clean(out)
    return f"{target}: {_sentence(facts)}"


def _earlier(out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call left in the folder.

    Raises:
        InputError: it was asked something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    found = read_json(out / RECORD) if (out / RECORD).is_file() else {}
    if found.get("asked") != asked:
        raise InputError(f"{out}: exists, and holds no poses of these particles with these settings: choose another")
    return found


def _again(earlier: dict[str, Any], particles: Particles, listed: ParticleFile, out: Path, flip: bool) -> str:
    """What a finished folder says, after its hand was changed if it is to be another."""
    if "flipped" not in earlier:  # nothing was found, and no poses written
        return f"{particles.source}: {earlier['said']}"
    target = listed.posed_path(out)
    if earlier["flipped"] == flip:
        return f"{target}: is there already; nothing to do"
    for name in (MAP, *HALF_MAPS):
        volume, size = read_mrc_volume(out / name)
        write_mrc_volume(out / name, _mirrored(volume), size)
    with np.load(out / POSTERIORS, allow_pickle=False) as found:
        posed = replace(particles, posed=True, rotations=found["rotations"], shifts_angstrom=found["shifts_angstrom"])
        _write_posed(posed, found["covariance"], listed, out, flip=True)
    write_json(out / RECORD, earlier | {"flipped": flip})
    return f"{target}: now of the other hand"


def without_poses(particles: Particles) -> Particles:
    """The particles, whatever their file says of poses."""
    count = len(particles)
    return replace(
        particles, rotations=np.tile(np.eye(3), (count, 1, 1)), shifts_angstrom=np.zeros((count, 2)), posed=False
    )


def _posed(particles: Particles, findings: Findings) -> Particles:
    return replace(
        particles,
        posed=True,
        rotations=findings.arrays["rotations"].double().numpy(),
        shifts_angstrom=findings.arrays["shifts"].double().numpy(),
    )


def _write_posed(
    particles: Particles, covariance: Float[np.ndarray, "n 5 5"], listed: ParticleFile, out: Path, flip: bool
) -> None:
    """Particle file and posteriors. The mirror image of a density, V(x, y, -z), has the views M R M of V's views R."""
    if flip:
        particles = replace(particles, rotations=MIRROR @ particles.rotations @ MIRROR)
        # exp([w]x) becomes M exp([w]x) M = exp([-M w]x).
        sign = np.array([-1.0, -1.0, 1.0, 1.0, 1.0])
        covariance = covariance * sign[:, None] * sign
    listed.write_posed(particles, out)
    write_npz(
        out / POSTERIORS,
        rotations=particles.rotations,
        shifts_angstrom=particles.shifts_angstrom,
        covariance=covariance,
    )


def _write_maps(out: Path, consensus: Consensus, pixel_size_angstrom: float, flip: bool) -> None:
    for name, volume in zip((MAP, *HALF_MAPS), (consensus.local, *consensus.halves), strict=True):
        values = volume.cpu().numpy()
        write_mrc_volume(out / name, _mirrored(values) if flip else values, pixel_size_angstrom)


def _mirrored(volume: Float[np.ndarray, "d d d"]) -> Float[np.ndarray, "d d d"]:
    """V(x, y, -z), about voxel D // 2."""
    return np.roll(volume[::-1], 1 - len(volume) % 2, axis=0)


def _refined(found: Refinement, consensus: Consensus, pixel_size_angstrom: float) -> dict[str, Any]:
    turn, shift = found.kept.unknown
    return {
        "unknown_turn_degrees": turn,
        "unknown_shift_angstrom": shift,
        "half_map_resolution_angstrom": resolution(
            consensus.half_map_fsc.cpu().double().numpy(), consensus.volume.shape[-1], pixel_size_angstrom, 0.143
        ),
        "rounds": list(found.rounds),
    }


def _sentence(facts: dict[str, Any]) -> str:
    agreement = max(facts["agreement_of_starts"], default=None)
    starts = "" if agreement is None else f"; the best start and the next agree by {agreement:.2f}"
    return (
        f"poses from nothing, half maps agree to {facts['half_map_resolution_angstrom']:.1f} A; "
        f"{facts['unknown_turn_degrees']:.1f} degrees and {facts['unknown_shift_angstrom']:.1f} A remain unknown"
        f"{starts}. Which hand it is no image says: --flip gives the other"
    )


def _clean(out: Path) -> None:
    for name in ("abinitio.safetensors", "refinement.safetensors"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "cache", ignore_errors=True)
