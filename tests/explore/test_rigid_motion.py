"""Rigid motions with known answers: simulated, and the true swing of the spike's receptor-binding domain."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.spatial.transform import Rotation

from assess.toy_run import blob
from cryoformer.assess.ground_truth import load_truth
from cryoformer.explore.motion import true_motion
from cryoformer.explore.rigid_motion import rigid_motions

BOX, PIXEL = 32, 3.0
RNG = np.random.default_rng(0)
ATOMS = RNG.standard_normal((14, 3)) * [3.5, 2.5, 2.0] + [0.0, 0.0, 6.0]
BODY = RNG.standard_normal((30, 3)) * [5.0, 4.0, 2.0] + [0.0, 0.0, -5.0]


def density(atoms: np.ndarray) -> np.ndarray:
    return sum(blob(tuple(atom), 1.4, BOX) for atom in [*BODY, *atoms]).astype(np.float64)


def states(degrees: float, shift_voxels: tuple[float, float, float], steps: int) -> list[np.ndarray]:
    """The body stays; the domain turns about its own centre and is shifted, in even steps."""
    centre = ATOMS.mean(axis=0)
    axis = np.array([0.3, 0.9, 0.3]) / np.linalg.norm([0.3, 0.9, 0.3])
    return [
        density(
            Rotation.from_rotvec(t * np.radians(degrees) * axis).apply(ATOMS - centre)
            + centre
            + t * np.array(shift_voxels)
        )
        for t in np.linspace(0.0, 1.0, steps)
    ]


def region_of(volumes: list[np.ndarray]) -> np.ndarray:
    deviation = np.std(volumes, axis=0)
    return binary_dilation(deviation > 0.1 * deviation.max())


@pytest.mark.parametrize("steps", [2, 5])
@pytest.mark.parametrize(
    ("degrees", "shift"), [(0.0, (3.0, 1.0, 0.0)), (40.0, (4.0, 0.0, 1.0)), (60.0, (-3.0, 3.0, 2.0))]
)
def test_a_known_motion_is_measured(degrees: float, shift: tuple[float, float, float], steps: int) -> None:
    volumes = states(degrees, shift, steps)
    found = rigid_motions(volumes, region_of(volumes), PIXEL)
    assert len(found) == steps - 1
    expected = PIXEL * np.array(shift)
    np.testing.assert_allclose(found[-1].displacement_angstrom, expected, atol=0.1 * np.linalg.norm(expected))
    assert found[-1].rotation_degrees == pytest.approx(degrees, abs=5.0)
    assert found[-1].explained > 0.9
    assert found[-1].balance > 0.9
    # Noise-free and on a fine grid: the centre of the part is that of its atoms.
    np.testing.assert_allclose(found[-1].centroid_angstrom, PIXEL * ATOMS.mean(axis=0), atol=PIXEL)
    if steps == 5:
        assert found[1].distance_angstrom == pytest.approx(0.5 * np.linalg.norm(expected), rel=0.15)


def test_a_region_that_holds_much_of_the_still_body_does_no_harm() -> None:
    volumes = states(40.0, (4.0, 0.0, 1.0), 2)
    wide = binary_dilation(region_of(volumes), iterations=6)
    found = rigid_motions(volumes, wide, PIXEL)[-1]
    np.testing.assert_allclose(found.displacement_angstrom, PIXEL * np.array([4.0, 0.0, 1.0]), atol=1.2)
    np.testing.assert_allclose(found.centroid_angstrom, PIXEL * ATOMS.mean(axis=0), atol=PIXEL)


def test_the_answer_survives_noise_and_does_not_depend_on_scale() -> None:
    volumes = states(40.0, (4.0, 0.0, 1.0), 2)
    noisy = [50.0 * (v + 0.1 * RNG.standard_normal(v.shape)) for v in volumes]
    found = rigid_motions(noisy, region_of(volumes), PIXEL)[-1]
    assert found.distance_angstrom == pytest.approx(PIXEL * np.sqrt(17.0), rel=0.1)
    assert found.rotation_degrees == pytest.approx(40.0, abs=6.0)


def test_density_that_appears_is_told_from_density_that_moves() -> None:
    there, gone = density(ATOMS), density(ATOMS[:0])
    found = rigid_motions([there, gone], region_of([there, gone]), PIXEL)[-1]
    assert found.balance < 0.1


def test_the_true_swing_of_the_spike(shared_data: Path) -> None:
    """The domain's atoms turn rigidly: their centre of mass (weights Z) moves 19.9 Å from t = 0 to 1, by 63 degrees."""
    truth = load_truth(shared_data / "stacks" / "spike64", 64, 3.5, 5000)
    found = true_motion(truth)
    assert found is not None
    motion, ends = found
    assert ends == pytest.approx((0.05, 0.95))
    assert motion.distance_angstrom == pytest.approx(0.9 * 19.9, rel=0.06)
    assert motion.rotation_degrees == pytest.approx(0.9 * 63.4, abs=4.0)
