"""From particles with rough poses to the same file with better ones, and what was found on the way."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from cryoformer import __version__
from cryoformer.device import usable_device
from cryoformer.errors import InputError
from cryoformer.files import check_output, write_json, write_npz
from cryoformer.formats.fingerprint import difference
from cryoformer.formats.particle_input import ParticleInput
from cryoformer.images.settings import ImageSettings
from cryoformer.memory import check_memory
from cryoformer.particles import check_count, check_images
from cryoformer.poses.cone import LEAST, MOST
from cryoformer.poses.framed_search import searched_poses
from cryoformer.poses.rounds import Poses, Refinement, refine_poses
from cryoformer.poses.symmetry import rotation_group
from cryoformer.progress import RunLog

RECORD = "refinement.json"
POSTERIORS = "poses.npz"
SEARCH = "search.safetensors"
# Of rough poses, unless an angle is given: a right angle leaves 18 % of all rotations.
FARTHEST = 90.0


def refine(
    source: ParticleInput,
    out: Path,
    settings: ImageSettings,
    search: str = "local",
    symmetry: str = "C1",
    cone_degrees: float | None = None,
) -> str:
    """Refine the poses of all particles of ``source`` into the folder ``out``; returns one sentence on what was found.

    The folder gets the particle file in its own format with other poses, ``poses.npz`` (``turn_radians``,
    ``shift_angstrom`` and ``covariance`` of every particle, relative to the poses given) and ``refinement.json``. A
    call that was stopped goes on where it stood.

    Args:
        search: "local" looks near the poses given. "global" finds poses from nothing (:mod:`.abinitio`); of those given
            it keeps the frame and the hand, which images do not say, so that they may be off by far. "cone" finds them
            among all that are no farther from those given than some angle.
        symmetry: point group of the particles.
        cone_degrees: that angle, :data:`FARTHEST` if it is not given.

    Raises:
        InputError: anything wrong with the files, or a folder that holds something else.
    """
    usable_device(settings.device)
    group, cone, far = rotation_group(symmetry), _cone(search, cone_degrees), search != "local"
    if far and len(group) > 1:
        raise InputError(f"--search {search} --symmetry {symmetry}: not both; give --symmetry to cryoformer abinitio")
    record, checkpoint = out / RECORD, out / "checkpoint.safetensors"
    check_output(out)
    listed = source.open()
    particles = listed.read()
    asked = {**settings.model_dump(mode="json"), "fingerprint": particles.fingerprint}
    asked |= {"search": search, "symmetry": symmetry} | ({} if cone is None else {"cone": cone})
    earlier = _earlier(out, asked)
    target = listed.posed_path(out)
    if earlier.get("finished"):
        return f"{target}: is there already; nothing to do"
    check_memory(particles.box, settings.device)
    check_count(particles)
    check_output(out, 60 * particles.box**3)
    check_images(particles, settings.normalise)
    facts: dict[str, Any] = {"input": source.facts(), "asked": asked}
    write_json(record, facts | {"finished": False})
    with RunLog(None, texts=[out / "log.txt"]) as log:
        near, searched = particles, searched_poses(particles, settings, out, log, cone) if far else None
        if searched is not None:
            near = searched.particles
            log.say(searched.sentence)
        # In a search all images are compared with one map.
        found = refine_poses(near, settings, out / "cache", checkpoint, log, group, independent=not far)
        log.say(f"done in {log.elapsed / 60:.1f} min")
    posed = found.kept.applied(near)
    listed.write_posed(posed, out)
    turns = Rotation.from_matrix(posed.rotations @ np.swapaxes(particles.rotations, 1, 2)).as_rotvec()
    shifts = posed.shifts_angstrom - particles.shifts_angstrom
    write_npz(out / POSTERIORS, turn_radians=turns, shift_angstrom=shifts, covariance=found.kept.covariance.numpy())
    moved = {
        "poses_changed": far or bool(found.kept.mean.any()),
        "median_turn_degrees": float(np.degrees(np.median(np.linalg.norm(turns, axis=1)))),
    }
    facts |= {"finished": True, **_result(found), **moved} | ({} if searched is None else searched.facts)
    write_json(record, facts)
    checkpoint.unlink()
    (out / SEARCH).unlink(missing_ok=True)
    shutil.rmtree(out / "cache", ignore_errors=True)
    if searched is not None:
        turn, shift = found.kept.unknown
        moved_by = f"new poses are {moved['median_turn_degrees']:.1f} degrees from those given (median)"
        return f"{target}: {moved_by}; {turn:.2f} degrees and {shift:.2f} A remain unknown; {searched.sentence}"
    return f"{target}: {_sentence(found.kept)}"


def _cone(search: str, degrees: float | None) -> float | None:
    """The angle of a cone, where one is asked for.

    Raises:
        InputError: an angle that cannot be, or one that another search does not ask for.
    """
    if search != "cone":
        if degrees is not None:
            raise InputError(f"--cone {degrees:g} --search {search}: the angle is that of --search cone; leave one out")
        return None
    angle = FARTHEST if degrees is None else degrees
    if not LEAST <= angle <= MOST:
        raise InputError(
            f"--cone {angle:g}: expected {LEAST:g} to {MOST:g} degrees; smaller errors are those of --search local"
        )
    return angle


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
