"""The motion between keyframes: rigid domains on screw paths (Chasles' theorem).

Every rigid motion is a rotation by an angle about one axis together with an advance along it. At the fraction s of the
way a domain has turned by s times the angle and moved by s times the advance, so bond lengths inside it are
exact at every moment; interpolating atoms along straight lines would squash a domain that turns. The atoms are
those of the first model throughout: differences inside a domain between the keyframes are not followed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from cryoformer.simulate.superposition import RigidTransform

SMALLEST_ANGLE = 1e-6
"""Below this angle (radians) the axis is lost in rounding, and the motion is a plain translation."""


@dataclass(frozen=True)
class Screw:
    """Rotation by ``angle_radians`` about the axis through ``point``, and ``advance_angstrom`` along it."""

    axis: Float[np.ndarray, " 3"]
    point: Float[np.ndarray, " 3"]
    angle_radians: float
    advance_angstrom: float

    @classmethod
    def from_motion(cls, motion: RigidTransform) -> "Screw":
        """The screw that ends in this motion, turning by at most 180 degrees."""
        turn = Rotation.from_matrix(motion.rotation).as_rotvec()
        angle = float(np.linalg.norm(turn))
        if angle < SMALLEST_ANGLE:
            length = float(np.linalg.norm(motion.translation))
            axis = motion.translation / length if length > 0 else np.array([0.0, 0.0, 1.0])
            return cls(axis, np.zeros(3), 0.0, length)
        axis = turn / angle
        advance = float(motion.translation @ axis)
        across = motion.translation - advance * axis
        # The axis point nearest the origin solves (1 - R) point = across in the plane normal to the axis.
        point = (across + np.cross(axis, across) / np.tan(angle / 2)) / 2
        return cls(axis, point, angle, advance)

    def at(self, fraction: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 3"]]:
        """Rotations and translations at these fractions of the way."""
        rotations = Rotation.from_rotvec(fraction[:, None] * self.angle_radians * self.axis).as_matrix()
        return rotations, self.point - rotations @ self.point + fraction[:, None] * self.advance_angstrom * self.axis


@dataclass(frozen=True)
class MotionPath:
    """Where every atom is at time t in [0, 1]; the k segments between keyframes take equal shares of it.

    Atoms [p] belong to groups that move as one all along the path: ``screws[segment][group]``, None while the group
    stands still. A path without segments is a molecule that does not move. All groups share one time, unless
    ``group_coordinate`` says for every group which of several independent times (coordinates) it follows.
    """

    atom_group: Int[np.ndarray, " p"]
    screws: tuple[tuple[Screw | None, ...], ...]
    group_coordinate: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.screws[0]) if self.screws else 1

    @property
    def coordinates(self) -> int:
        """Number of times that can be chosen independently; none where nothing moves."""
        if not self.screws:
            return 0
        return max(self.group_coordinate, default=0) + 1

    def independent(self) -> "MotionPath":
        """The same path with a coordinate of its own for every group that moves, in the order of the groups."""
        moving = [any(segment[group] is not None for segment in self.screws) for group in range(self.groups)]
        order = np.maximum(np.cumsum(moving) - 1, 0)
        return MotionPath(self.atom_group, self.screws, tuple(order.tolist()))

    def of(self, atoms: Int[np.ndarray, " m"]) -> "MotionPath":
        """The path of some atoms, by index."""
        return MotionPath(self.atom_group[atoms], self.screws, self.group_coordinate)

    def transforms(
        self, t: Float[np.ndarray, " n"] | Float[np.ndarray, "n c"]
    ) -> tuple[Float[np.ndarray, "n g 3 3"], Float[np.ndarray, "n g 3"]]:
        """Rotation and translation of every group from the first keyframe to each time t.

        With one number a row, all coordinates are the same.
        """
        times = t[:, None] if t.ndim == 1 else t
        coordinate = self.group_coordinate if times.shape[1] > 1 else (0,) * self.groups
        rotations = np.tile(np.eye(3), (len(t), self.groups, 1, 1))
        translations = np.zeros((len(t), self.groups, 3))
        for number, segment in enumerate(self.screws):
            fraction = np.clip(times * len(self.screws) - number, 0.0, 1.0)
            for group, screw in enumerate(segment):
                if screw is not None:
                    turn, move = screw.at(fraction[:, coordinate[group]])
                    rotations[:, group] = turn @ rotations[:, group]
                    translations[:, group] = np.einsum("nij,nj->ni", turn, translations[:, group]) + move
        return rotations, translations

    def positions(
        self, start_angstrom: Float[np.ndarray, "p 3"], t: float | Float[np.ndarray, " c"]
    ) -> Float[np.ndarray, "p 3"]:
        """Atoms at time t, or at one time per coordinate, from their places in the first keyframe."""
        rotations, translations = self.transforms(np.array([t]))
        turned = np.einsum("pij,pj->pi", rotations[0, self.atom_group], start_angstrom)
        return turned + translations[0, self.atom_group]
