"""From particles with rough poses to the same file with better ones, and what was found on the way."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from cryoformer import __version__
from cryoformer.device import usable_device
from cryoformer.errors import InputError
from cryoformer.files import check_output, write_json, write_npz
from cryoformer.formats.fingerprint import difference
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings
from cryoformer.memory import check_memory
from cryoformer.particles import check_count, check_images
from cryoformer.poses.rounds import Poses, Refinement, refine_poses
from cryoformer.progress import RunLog

RECORD = "refinement.json"
POSTERIORS = "poses.npz"


def refine(source: ParticleInput, out: Path, settings: ImageSettings) -> str:
    """Refine the poses of all particles of ``source`` into the folder ``out``; returns one sentence on what was found.

    The folder gets the particle file in its own format with other poses, ``poses.npz`` (``turn_radians``,
    ``shift_angstrom`` and ``covariance`` of every particle, relative to the poses given) and ``refinement.json``. A
    call that was stopped goes on where it stood.

    Raises:
        InputError: anything wrong with the files, or a folder that holds something else.
    """
    usable_device(settings.device)
    record, checkpoint = out / RECORD, out / "checkpoint.safetensors"
    check_output(out)
    listed = source.open()
    particles = listed.read()
    asked = {**settings.model_dump(mode="json"), "fingerprint": particles.fingerprint}
    earlier = _earlier(out, asked)
    target = listed.posed_path(out)
    if earlier.get("finished"):
        return f"{target}: is there already; nothing to do"
    check_memory(particles.box, settings.device)
    check_count(particles)
    check_output(out, 60 * particles.box**3)
    check_images(particles, settings.normalise)
    facts = {"input": source.facts(), "asked": asked}
    write_json(record, facts | {"finished": False})
    with RunLog(None, texts=[out / "log.txt"]) as log:
        found = refine_poses(particles, settings, out / "cache", checkpoint, log)
        log.say(f"done in {log.elapsed / 60:.1f} min")
    listed.write_posed(found.kept.applied(particles), out)
    mean, covariance = found.kept.mean.numpy(), found.kept.covariance.numpy()
    write_npz(out / POSTERIORS, turn_radians=mean[:, :3], shift_angstrom=mean[:, 3:], covariance=covariance)
    write_json(record, facts | {"finished": True, **_result(found)})
    checkpoint.unlink()
    shutil.rmtree(out / "cache", ignore_errors=True)
    return f"{target}: {_sentence(found.kept)}"


def _earlier(out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call left in the folder.

    Raises:
        InputError: it was asked something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    try:
        found: dict[str, Any] = json.loads((out / RECORD).read_text())
        before = found["asked"]
        same = all(before[name] == asked[name] for name in asked if name != "fingerprint")
        same = same and not difference(before["fingerprint"], asked["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise InputError(
            f"{out}: exists, and holds no refinement of these particles with these settings: choose another"
        )
    return found


def _result(found: Refinement) -> dict[str, Any]:
    (turn, shift), prior = found.kept.unknown, found.kept.prior
    return {
        "cryoformer": __version__,
        "poses_changed": bool(found.kept.mean.any()),
        "given_turn_degrees": math.degrees(prior.turn),
        "given_shift_angstrom": prior.shift,
        "unknown_turn_degrees": turn,
        "unknown_shift_angstrom": shift,
        "rounds": list(found.rounds),
    }


def _sentence(kept: Poses) -> str:
    off = f"{math.degrees(kept.prior.turn):.2f} degrees about an axis and {kept.prior.shift:.2f} A along one"
    if not kept.mean.any():
        return f"the poses stay as they were: half maps agree no better under others (errors of {off}, at most)"
    turn, shift = kept.unknown
    return (
        f"the poses given were off by {off} (standard deviations, as the images say); {turn:.2f} degrees and "
        f"{shift:.2f} A remain unknown"
    )
