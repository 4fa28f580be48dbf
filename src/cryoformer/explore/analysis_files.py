"""The folder ``RUN/analysis``: what was found, as files for ChimeraX, the viewer and other programs.

latent_space.npz    mean, components, explained, coordinates, labels, centres (particles), umap where asked for
analysis.json       every number
flexibility.mrc, uncertainty.mrc, local_resolution.mrc, maps.cxc
states/state_01.mrc ..., states.cxc     densities of the report's states (cluster centres), the largest first
attention/part_01.mrc ..., parts.cxc    parts that move together
attention/query_01.mrc, query_01_change.mrc ...   one structure query in the typical state; its deviation over states;
                                        the eight largest, or all on request
trajectories/NAME.npy, NAME/frame_000.mrc ..., NAME.gif, NAME.mp4, NAME.cxc
"""

import shutil
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from jaxtyping import Float

from cryoformer.explore.chimerax import write_colouring_script, write_series_script
from cryoformer.explore.findings import Findings
from cryoformer.explore.morph import motion_frames, prepare_morph
from cryoformer.explore.motion import RegionMotion, in_words
from cryoformer.explore.movie import write_gif, write_mp4
from cryoformer.explore.rigid_motion import RigidMotion
from cryoformer.explore.trajectory import Trajectory
from cryoformer.explore.viewpoint import FULL_COLOUR
from cryoformer.files import atomic_path, write_json, write_mrc_volume, write_npy, write_npz
from cryoformer.progress import RunLog

FOLDER = "analysis"
LARGEST_QUERIES = 8


def write_analysis(found: Findings, log: RunLog) -> Path:
    """Write everything into the folder ``analysis``; what an earlier analysis left in its folders is removed."""
    folder = found.folder / FOLDER
    for name in ("clusters", "states", "attention", "trajectories"):
        shutil.rmtree(folder / name, ignore_errors=True)
    log.stage("maps")
    _write_latent_space(found, folder / "latent_space.npz")
    _write_maps(found, folder)
    _write_attention(found, folder / "attention")
    for number, trajectory in enumerate(found.trajectories):
        log.stage(f"trajectory {trajectory.name}")
        write_trajectory(found, trajectory, folder / "trajectories")
        log.advance((number + 1) / len(found.trajectories))
    write_json(folder / "analysis.json", numbers(found), allow_nan=True)
    return folder


def _write_latent_space(found: Findings, path: Path) -> None:
    principal = found.principal
    arrays: dict[str, Any] = {
        "mean": principal.mean,
        "components": principal.components,
        "explained": principal.explained,
        "coordinates": principal.coordinates.astype(np.float32),
        "labels": found.clusters.labels,
        "centres": found.clusters.particles,
    }
    if found.umap is not None:
        arrays["umap"] = found.umap
    write_npz(path, **arrays)


def _write_maps(found: Findings, folder: Path) -> None:
    run, pixel = found.run, found.run.pixel_size_angstrom
    maps = {"flexibility": found.flexibility.deviation, "uncertainty": found.uncertainty}
    for name, volume in {**maps, "local_resolution": found.local_resolution}.items():
        write_mrc_volume(folder / f"{name}.mrc", volume, pixel)
    centres = [folder / "states" / f"state_{number:02d}.mrc" for number in range(1, len(found.clusters.sizes) + 1)]
    for path, volume in zip(centres, run.particle_volumes(found.clusters.particles), strict=True):
        write_mrc_volume(path, volume, pixel)
    full = FULL_COLOUR * found.level
    write_series_script(folder / "states" / "states.cxc", centres, found.level, folder / "flexibility.mrc", full)
    write_colouring_script(
        folder / "maps.cxc", centres[0], found.level, [(folder / f"{name}.mrc", full) for name in maps]
    )


def _write_attention(found: Findings, folder: Path) -> None:
    box, pixel, parts = found.run.box, found.run.pixel_size_angstrom, found.parts
    files = []
    for part in range(parts.count):
        files.append((folder / f"part_{part + 1:02d}.mrc", float(parts.strength[parts.part == part].max())))
        write_mrc_volume(files[-1][0], parts.volume(part, box), pixel)
    centre = found.folder / FOLDER / "states" / "state_01.mrc"
    if files:
        write_colouring_script(folder / "parts.cxc", centre, found.level, files)
    if found.attention is None or found.typical_attention is None:
        return
    queries = []
    shown = query_order(found)[: None if found.options.all_queries else LARGEST_QUERIES]
    for number, query in enumerate(shown, start=1):
        path, change = folder / f"query_{number:02d}.mrc", folder / f"query_{number:02d}_change.mrc"
        for target, values in ((path, found.typical_attention), (change, found.attention.deviation)):
            write_cropped_volume(target, found.attention.volume(values[:, query], box), pixel)
        queries.append((change, float(found.attention.deviation[:, query].max())))
    write_colouring_script(folder / "queries.cxc", centre, found.level, queries[:LARGEST_QUERIES])


def query_order(found: Findings) -> list[int]:
    """Structure queries by size: how many decoded voxels give them the largest weight in the typical state."""
    assert found.typical_attention is not None
    weights = found.typical_attention
    sizes = np.bincount(weights.argmax(axis=1), minlength=weights.shape[1])
    return [int(query) for query in np.lexsort((-weights.sum(axis=0), -sizes))]


def write_cropped_volume(path: Path, volume: Float[np.ndarray, "d d d"], pixel_size_angstrom: float) -> None:
    """The part of a volume that is not zero, as MRC with the origin that lays it on the whole one."""
    filled = np.nonzero(volume)
    corner = [int(axis.min()) if len(axis) else 0 for axis in filled]
    end = [int(axis.max()) + 1 if len(axis) else 1 for axis in filled]
    part = volume[corner[0] : end[0], corner[1] : end[1], corner[2] : end[2]]
    z, y, x = (low * pixel_size_angstrom for low in corner)
    with atomic_path(path) as temporary, mrcfile.new(temporary, overwrite=True) as mrc:
        mrc.set_data(np.ascontiguousarray(part, dtype=np.float32))
        mrc.set_volume()
        mrc.voxel_size = pixel_size_angstrom
        mrc.header.origin.z, mrc.header.origin.y, mrc.header.origin.x = z, y, x


def write_trajectory(found: Findings, trajectory: Trajectory, folder: Path) -> None:
    """Latent points, volume series, movie and ChimeraX script of one trajectory."""
    run, frames = found.run, folder / trajectory.name
    volumes = list(run.latent_volumes(np.asarray(trajectory.latents, dtype=np.float32)))
    files = [frames / f"frame_{number:03d}.mrc" for number in range(len(volumes))]
    for path, volume in zip(files, volumes, strict=True):
        write_mrc_volume(path, volume, run.pixel_size_angstrom)
    write_npy(folder / f"{trajectory.name}.npy", trajectory.latents)
    pictures = motion_frames(prepare_morph(volumes, trajectory.labels))
    write_gif(pictures, folder / f"{trajectory.name}.gif")
    write_mp4(pictures, folder / f"{trajectory.name}.mp4")
    flexibility = found.folder / FOLDER / "flexibility.mrc"
    write_series_script(folder / f"{trajectory.name}.cxc", files, found.level, flexibility, FULL_COLOUR * found.level)


def numbers(found: Findings) -> dict[str, Any]:
    """Every number of the analysis, as ``analysis.json`` holds it."""
    pixel, fsc = found.run.pixel_size_angstrom, found.half_map_fsc
    inside = found.local_resolution[found.flexibility.mean > found.level]
    result: dict[str, Any] = {
        "format": 1,
        "particles": len(found.principal.coordinates),
        "pixel_size_angstrom": pixel,
        "contour_level": found.level,
        "explained": found.principal.explained.tolist(),
        "clusters": cluster_numbers(found),
        "motion": {
            "trajectory": found.trajectories[0].name,
            "words": in_words(found.motions, found.trajectories[0]),
            "regions": [_region_numbers(motion) for motion in found.motions],
        },
        "parts": _part_numbers(found),
        "trajectories": {t.name: {"labels": t.labels} for t in found.trajectories},
        "half_map_fsc": fsc.tolist(),
        "local_resolution_angstrom": dict(
            zip(
                ("best", "median", "worst"),
                np.percentile(inside, [5, 50, 95]).tolist() if inside.size else [],
                strict=False,
            )
        ),
    }
    if found.landscape is not None:
        energy, deviation = found.landscape.energy, found.landscape.deviation
        result["landscape"] = {
            "largest_kt": float(np.nanmax(energy)), "median_deviation_kt": float(np.nanmedian(deviation))
        }  # fmt: skip
    if found.comparison is not None:
        result["truth"] = _truth_numbers(found)
    return result


def cluster_numbers(found: Findings) -> list[dict[str, Any]]:
    """Size and share of every cluster, with its uncertainty, certainty of the assignment, particle at the centre."""
    shares = found.shares
    return [
        {
            "particle": int(found.clusters.particles[i]),
            "particles": int(found.clusters.sizes[i]),
            "share": float(shares.share[i]),
            "share_deviation": float(shares.deviation[i]),
            "certainty": float(shares.certainty[i]),
            "coordinates": found.principal.coordinates[found.clusters.particles[i]].tolist(),
        }
        for i in range(len(found.clusters.sizes))
    ]


def _region_numbers(motion: RegionMotion) -> dict[str, Any]:
    return {
        "volume_cubic_angstrom": motion.volume_angstrom,
        "share_of_flexibility": motion.region.share,
        "is_rigid": motion.whole.is_rigid,
        **_motion_numbers(motion.whole),
        "distance_deviation_angstrom": motion.distance_deviation,
        "rotation_deviation_degrees": motion.rotation_deviation,
        "distances_along_angstrom": [step.distance_angstrom for step in motion.steps],
        "rotations_along_degrees": [step.rotation_degrees for step in motion.steps],
    }


def _motion_numbers(motion: RigidMotion) -> dict[str, Any]:
    return {
        "distance_angstrom": motion.distance_angstrom,
        "rotation_degrees": motion.rotation_degrees,
        "centroid_angstrom": motion.centroid_angstrom.tolist(),
        "displacement_angstrom": motion.displacement_angstrom.tolist(),
        "rotation_vector": motion.rotation_vector.tolist(),
        "explained": motion.explained,
        "mass_balance": motion.balance,
    }


def _part_numbers(found: Findings) -> list[dict[str, Any]]:
    parts, voxel = found.parts, found.run.pixel_size_angstrom**3
    queries = parts.queries
    numbers = {query: number for number, query in enumerate(query_order(found), 1)} if queries is not None else {}
    return [
        {
            "file": f"attention/part_{part + 1:02d}.mrc",
            "volume_cubic_angstrom": float((parts.part == part).sum()) * voxel,
            "queries": sorted(numbers[int(q)] for q in np.flatnonzero(queries == part))
            if queries is not None
            else None,
        }
        for part in range(parts.count)
    ]


def _truth_numbers(found: Findings) -> dict[str, Any]:
    comparison = found.comparison
    assert comparison is not None
    result: dict[str, Any] = {"roc_auc": comparison.flexibility_auc}
    if comparison.motion is not None:
        result["motion"] = {"t": comparison.motion_t, **_motion_numbers(comparison.motion)}
        if found.motions:
            result["distance_ratio"] = found.motions[0].whole.distance_angstrom / comparison.motion.distance_angstrom
    return result
