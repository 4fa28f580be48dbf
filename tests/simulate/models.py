"""Small made-up molecules for the tests of the simulation."""

import numpy as np
from scipy.spatial.transform import Rotation

from cryoformer.simulate.structures import AtomicModel, Residue

NAMES = ("ALA", "GLY", "LEU", "SER", "VAL", "LYS", "GLU", "THR", "ASP", "PHE")


def blob(count: int, seed: int, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """C-alphas of a compact made-up domain [count, 3]: a chain that winds along a cubic lattice, 3.8 A a step."""
    side = int(np.ceil(count ** (1 / 3)))
    cells = []
    for z in range(side):
        for y in range(side) if z % 2 == 0 else reversed(range(side)):
            row = [(x, y, z) for x in range(side)]
            cells += row if (y + z) % 2 == 0 else row[::-1]
    points = np.array(cells[:count], dtype=np.float64) * 3.8
    points += np.random.default_rng(seed).normal(0.0, 0.3, points.shape)
    return points - points.mean(axis=0) + centre


def chain_model(chains: dict[str, np.ndarray], name: str = "made up", first_number: int = 1) -> AtomicModel:
    """One C-alpha a residue; the sequences of all chains are the same repeat, without short periods."""
    residues, positions = [], []
    for chain, points in chains.items():
        kinds = np.random.default_rng(7).integers(len(NAMES), size=len(points))
        for index, (kind, point) in enumerate(zip(kinds, points, strict=True)):
            residues.append(Residue(chain, first_number + index, "", NAMES[kind], True))
            positions.append(point)
    count = len(positions)
    return AtomicModel(name, np.array(positions), ("C",) * count, ("CA",) * count, np.arange(count), tuple(residues))


def turned(
    points: np.ndarray, degrees: float, axis: tuple[float, float, float], move: tuple[float, float, float] = (0, 0, 0)
) -> np.ndarray:
    """The points turned about an axis through their centroid, and moved."""
    direction = np.array(axis) / np.linalg.norm(axis)
    centre = points.mean(axis=0)
    return Rotation.from_rotvec(np.radians(degrees) * direction).apply(points - centre) + centre + np.array(move)
