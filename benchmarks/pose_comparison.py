"""Poses that were found without any against those that are known: angles, and the maps that they make.

Angles are geodesic, after one global rotation of all particles and for the better hand; in a symmetric particle those
of the nearest equivalent view. Maps are back-projections of all images (and of the two halves, as the file has them) at
either poses, those found brought into the frame of those known by that rotation and the best translation of the origin.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryoformer.formats import load_particles
from cryoformer.images.settings import ImageSettings
from cryoformer.images.streamed import prepare_images
from cryoformer.imaging.fsc import fourier_shell_correlation, resolution
from cryoformer.imaging.grids import voxel_radii
from cryoformer.linear.consensus import PARTICLE_RADIUS, Consensus, reconstruct_consensus
from cryoformer.particles import Particles
from cryoformer.poses.cone import frame_turn
from cryoformer.poses.map_alignment import MIRROR
from cryoformer.poses.symmetry import rotation_group

# Of the best global rotation: candidates that are tried, the quantile that decides, rounds of averaging near ones.
CANDIDATES, QUANTILE, ROUNDS, NEAR_DEGREES = 400, 0.4, 4, 10.0


def degrees_between(found: np.ndarray, known: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Angles between rotations [n, 3, 3], of the nearest equivalent view."""
    traces = np.stack([np.einsum("nij,nij->n", found @ each, known) for each in group]).max(axis=0)
    return np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))


def best_frame(found: np.ndarray, known: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """``found`` in the frame of ``known``, its errors in degrees, and whether it had to be mirrored."""
    best: tuple[float, np.ndarray, np.ndarray, bool] | None = None
    for mirrored in (False, True):
        rotations = MIRROR @ found @ MIRROR if mirrored else found
        # Some particles propose the global rotation, some decide, and all that are near it are averaged.
        some = np.linspace(0, len(known) - 1, min(len(known), CANDIDATES)).round().astype(int)
        between = np.swapaxes(rotations[some], 1, 2) @ known[some]
        scores = [
            np.quantile(degrees_between(rotations[some] @ turn, known[some], group), QUANTILE) for turn in between
        ]
        turn = _averaged(between[int(np.argmin(scores))], rotations, known, group)
        errors = degrees_between(rotations @ turn, known, group)
        if best is None or np.quantile(errors, QUANTILE) < best[0]:
            best = (float(np.quantile(errors, QUANTILE)), rotations @ turn, errors, mirrored)
    assert best is not None
    return best[1:]


def _averaged(turn: np.ndarray, rotations: np.ndarray, known: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean of what single particles say of the global rotation, of those that are near the one before."""
    for _ in range(ROUNDS):
        candidates = np.stack([np.swapaxes(rotations, 1, 2) @ known @ each.T for each in group], axis=1)
        traces = np.einsum("nkij,ij->nk", candidates, turn)
        place = traces.argmax(axis=1)
        near = traces[np.arange(len(place)), place] > 1 + 2 * np.cos(np.radians(NEAR_DEGREES))
        if near.sum() < 3:
            break
        chosen = candidates[np.arange(len(place)), place][near]
        turn = Rotation.from_matrix(chosen).mean().as_matrix()
    return turn


@dataclass(frozen=True)
class Framed:
    """Particles at the poses that were found, in the frame of those that are known, and how far off they are."""

    particles: Particles
    degrees: np.ndarray
    angstrom: np.ndarray
    mirrored: bool


def framed(poses: Particles, exact: Particles, symmetry: str) -> Framed:
    """``poses`` in the frame of ``exact``: the same particles in the same order."""
    rotations, errors, mirrored = best_frame(
        poses.rotations, exact.rotations, Rotation.create_group(symmetry).as_matrix()
    )
    shifts = poses.shifts_angstrom - exact.shifts_angstrom
    # Another origin of the map, by t, shifts all particles by (R t)_xy.
    rows = rotations[:, :2].reshape(-1, 3)
    near = np.repeat(errors < NEAR_DEGREES, 2)
    near = near if near.sum() > 6 else np.ones_like(near)
    origin = np.linalg.lstsq(rows[near], shifts.reshape(-1)[near], rcond=None)[0]
    left = shifts - (rows @ origin).reshape(-1, 2)
    particles = replace(exact, rotations=rotations, shifts_angstrom=exact.shifts_angstrom + left)
    return Framed(particles, errors, np.linalg.norm(left, axis=1), mirrored)


def degrees_within_states(framed: np.ndarray, known: np.ndarray, motion: np.ndarray, states: int = 20) -> np.ndarray:
    """Angles [n] after one rotation for every twentieth of the particles along their motion [n].

    Turning all particles of a conformation and their density the other way changes no image, so that no program can
    know this rotation; :func:`degrees_between` charges for it where the truth has another one.
    """
    found, order = np.zeros(len(motion)), np.argsort(motion, kind="stable")
    for some in np.array_split(order, states):
        between = np.swapaxes(framed[some], 1, 2) @ known[some]
        turn, _ = frame_turn(framed[some], known[some])
        for _ in range(ROUNDS):
            near = Rotation.from_matrix(between @ turn.T).magnitude() < np.radians(2.5 * NEAR_DEGREES)
            if near.sum() < 3:
                break
            turn = Rotation.from_matrix(between[near]).mean().as_matrix()
        found[some] = np.degrees(Rotation.from_matrix(between @ turn.T).magnitude())
    return found


def compare(found: Path, known: Path, symmetry: str, cache: Path) -> dict[str, Any]:
    """All figures of one result.

    Args:
        found, known: files of the same particles, in the same order.
        symmetry: of the particle; ``known`` has its axes as :func:`.rotation_group` has them.
        cache: folder for images that do not fit the memory.
    """
    exact = load_particles(known)
    there = framed(load_particles(found), exact, symmetry)
    maps = [_maps(each, symmetry, cache) for each in (there.particles, exact)]
    box, pixel = maps[0].volume.shape[-1], float(exact.pixel_sizes_angstrom.max())
    alike = fourier_shell_correlation(maps[0].volume, maps[1].volume)
    return {
        "mirrored": there.mirrored,
        "median_degrees": float(np.median(there.degrees)),
        "within_10_degrees": float(np.mean(there.degrees < 10)),
        "median_shift_angstrom": float(np.median(there.angstrom)),
        "map_like_that_at_known_poses_to_angstrom": resolution(alike, box, pixel, 0.5),
        "map_fsc": [round(float(each), 3) for each in alike],
        "half_map_fsc_across": [round(float(each), 3) for each in _across(*maps)],
        "half_maps_to_angstrom": [_resolution(each, pixel) for each in maps],
        "mean_half_map_fsc": [float(each.half_map_fsc.mean()) for each in maps],
    }


def _maps(particles: Particles, symmetry: str, cache: Path) -> Consensus:
    images = prepare_images(particles, cache, ImageSettings(device="cpu"))
    return reconstruct_consensus(images, rotation_group(symmetry))


def _across(found: Consensus, known: Consensus) -> np.ndarray:
    """FSC of either half map at the poses found and the other one at those known, which share no images: the mean."""
    box = found.volume.shape[-1]
    ball = (voxel_radii(box) < PARTICLE_RADIUS * box / 2).to(found.volume)
    both = [fourier_shell_correlation(found.halves[i] * ball, known.halves[1 - i] * ball) for i in (0, 1)]
    return np.mean(np.asarray(both), axis=0)


def _resolution(consensus: Consensus, pixel_size_angstrom: float) -> float:
    fsc = torch.cat([consensus.half_map_fsc, torch.zeros(1)]).double().numpy()
    return resolution(fsc, consensus.volume.shape[-1], pixel_size_angstrom, 0.143)
