"""The fields that a ``.cs`` file has of particles that come from elsewhere."""

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences


def blob_fields(
    particles: Particles, references: ImageReferences, stack_paths: Sequence[str], sign: int
) -> dict[str, np.ndarray]:
    count = len(particles)
    signatures = [int.from_bytes(hashlib.sha1(path.encode()).digest()[:8], "little") for path in stack_paths]
    return {
        "blob/path": np.array(stack_paths, dtype=object)[references.path_of_row],
        "blob/idx": references.index_of_row.astype(np.uint32),
        "blob/shape": np.repeat(particles.boxes[:, None], 2, axis=1).astype(np.uint32),
        "blob/psize_A": particles.pixel_sizes_angstrom.astype(np.float32),
        "blob/sign": np.full(count, sign, dtype=np.float32),
        "blob/import_sig": np.array(signatures, dtype=np.uint64)[references.path_of_row],
    }


def ctf_fields(particles: Particles) -> dict[str, np.ndarray]:
    ctf, count = particles.ctf, len(particles)
    none = {"shift_A": 2, "tilt_A": 2, "trefoil_A": 2, "tetra_A": 4, "anisomag": 4}
    return {
        "ctf/type": np.full(count, "imported", dtype=object),
        "ctf/exp_group_id": particles.optics_group.astype(np.uint32),
        "ctf/accel_kv": ctf.voltage_kv.numpy(),
        "ctf/cs_mm": ctf.spherical_aberration_mm.numpy(),
        "ctf/amp_contrast": ctf.amplitude_contrast.numpy(),
        "ctf/df1_A": ctf.defocus_u_angstrom.numpy(),
        "ctf/df2_A": ctf.defocus_v_angstrom.numpy(),
        "ctf/df_angle_rad": np.radians(ctf.defocus_angle_degrees.numpy()),
        "ctf/phase_shift_rad": np.radians(ctf.phase_shift_degrees.numpy()),
        "ctf/scale": np.ones(count, dtype=np.float32),
        "ctf/scale_const": np.zeros(count, dtype=np.float32),
        **{f"ctf/{name}": np.zeros((count, length), dtype=np.float32) for name, length in none.items()},
        "ctf/bfactor": ctf.b_factor_angstrom2.numpy(),
    }


def alignment_fields(particles: Particles) -> dict[str, np.ndarray]:
    """Poses, and 0 or 1 in what a refinement would say of how it found them."""
    count = len(particles)
    split = np.zeros(count) if particles.half_set is None else particles.half_set - 1
    pixel_sizes = particles.pixel_sizes_angstrom
    zeros = (
        "error",
        "error_min",
        "resid_pow",
        "slice_pow",
        "image_pow",
        "cross_cor",
        "weight",
        "pose_ess",
        "shift_ess",
    )
    vectors = Rotation.from_matrix(np.swapaxes(particles.rotations, -1, -2)).as_rotvec()
    return {
        "alignments3D/split": split.astype(np.uint32),
        "alignments3D/shift": (0.0 - particles.shifts_angstrom / pixel_sizes[:, None]).astype(np.float32),
        "alignments3D/pose": vectors.astype(np.float32),
        "alignments3D/psize_A": pixel_sizes.astype(np.float32),
        **{f"alignments3D/{name}": np.zeros(count, dtype=np.float32) for name in zeros},
        **{f"alignments3D/{name}": np.ones(count, dtype=np.float32) for name in ("alpha", "class_posterior")},
        "alignments3D/class": np.zeros(count, dtype=np.uint32),
        "alignments3D/class_ess": np.ones(count, dtype=np.float32),
    }
