r"""What images say of the parts: their densities, in closed form, and how they move.

For image i in state s, drawn from its posterior, part m is the slice

    exp(-2 pi i k.d / L) V_m^((R_i R_m(z_s))^T k),     d = (R_i c_m(z_s))_xy.

Undo the shift, subtract the rest, and the image is one of V_m alone at the pose R_i R_m(z_s): the normal equations of
a back-projection, every draw with its share. A small turn w and shift t of the part in the molecule's frame change the
slice to first order, so that the draws of a state give information H_s and gradient g_s on (w, t) there; with motions
linear in their coefficients, Gauss-Newton over all states is one small linear system.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.slices import interpolate_slices
from cryoformer.linear.consensus import Backprojection, solved_halves, wiener_backprojection
from cryoformer.linear.normal_equations import NormalEquations
from cryoformer.parts.density import FieldProjector, PartDensities
from cryoformer.parts.motion import PartMotions, PartPlaces, left_jacobian

# What a motion costs beforehand: one standard deviation of every coefficient, in radians and Angstrom.
PRIOR_TURN, PRIOR_SHIFT = 1.0, 30.0
# A step moves no state by more than this, root mean square over the population.
LONGEST_TURN, LONGEST_SHIFT = 0.15, 5.0


@dataclass(frozen=True)
class _Slices:
    """The parts in a batch of images and draws, b images and c draws of each."""

    rotations: Float[Tensor, "m e 3 3"]  # e = b c, of the part in the image
    shifts: Float[Tensor, "m e 2"]
    molecule: Float[Tensor, "e 3 3"]  # of the molecule in the image
    state: Int[Tensor, " e"]


def _slices(images: Images, draws: Int[Tensor, "b c"], places: PartPlaces) -> _Slices:
    count = draws.shape[1]
    molecule = images.views().repeat_interleave(count, dim=0)
    state = draws.reshape(-1)
    shifts = (molecule @ places.centres[:, state, :, None])[..., :2, 0]
    return _Slices(molecule @ places.rotations[:, state], shifts, molecule, state)


class PartProjector:
    """What the parts look like in images whose states are known or drawn."""

    def __init__(self, densities: PartDensities, places: PartPlaces, *, sloped: bool = False) -> None:
        self.places = places
        self.fields = [FieldProjector(part, densities.pixel_size_angstrom, sloped=sloped) for part in densities.parts]
        self.plane, self.side_angstrom = self.fields[0].plane, self.fields[0].side_angstrom

    def slices(self, images: Images, draws: Int[Tensor, "b c"]) -> _Slices:
        return _slices(images, draws, self.places)

    def values(self, slices: _Slices) -> list[Complex[Tensor, "e q f"]]:
        """Of each part, without CTF: its density (and places times density)."""
        return [
            field.project(rotations) * field.phases(shifts)[..., None]
            for field, rotations, shifts in zip(self.fields, slices.rotations, slices.shifts, strict=True)
        ]

    def others(self, slices: _Slices) -> list[Complex[Tensor, "e q"] | None]:
        """For each part the sum of the others, without CTF; None where there are no others."""
        if len(self.fields) == 1:
            return [None]
        values = torch.stack([value[..., 0] for value in self.values(slices)])
        return list(values.sum(dim=0) - values)

    def evidence(
        self, slices: _Slices, data: Complex[Tensor, "e q"], ctf: Float[Tensor, "e q"]
    ) -> tuple[Float[Tensor, "m e 6 6"], Float[Tensor, "m e 6"], Float[Tensor, " e"]]:
        """Information and gradient on the turn and shift of each part, and the log likelihood where it stands.

        Of a projector with slopes, and white data.
        """
        values = self.values(slices)
        error = data - ctf * torch.stack([value[..., 0] for value in values]).sum(dim=0)
        error = torch.cat([error.real, error.imag], dim=1)
        information, gradient = [], []
        for part, value in enumerate(values):
            slopes = part_slopes(self, value, slices.rotations[part], slices.molecule) * ctf[..., None]
            real = torch.cat([slopes.real, slopes.imag], dim=1)
            information.append(2 * real.transpose(1, 2) @ real)
            gradient.append(2 * (error[:, None] @ real)[:, 0])
        return torch.stack(information), torch.stack(gradient), -error.square().sum(dim=1)

    def mean(self, images: Images, draws: Int[Tensor, "b c"]) -> Complex[Tensor, "b q"]:
        """Sum of the parts, averaged over the draws."""
        values = self.values(self.slices(images, draws))
        return torch.stack([value[..., 0] for value in values]).sum(dim=0).view(*draws.shape, -1).mean(dim=1)


@dataclass(frozen=True)
class MotionEvidence:
    """What the images say of the motion of each part in each state: information and gradient on (w, t)."""

    information: Float[Tensor, "m s 6 6"]
    gradient: Float[Tensor, "m s 6"]


@dataclass(frozen=True)
class PartUpdate:
    """New densities of the parts, unmasked, and what the images say of their motions."""

    found: list[Backprojection]
    evidence: MotionEvidence | None


@torch.no_grad()
def update_parts(
    images: Images,
    residuals: Images,
    rows: Int[Tensor, " r"],
    densities: PartDensities,
    places: PartPlaces,
    draws: Int[Tensor, "n c"],
    *,
    motions: bool,
) -> PartUpdate:
    """Densities of all parts from what the still density leaves of these rows, and their motions' evidence.

    Args:
        residuals: the images without their still density.
        places: of the states.
        draws: states of every image; the first of each is enough for the motions.
        motions: whether the evidence is asked for; the densities must not be zero then.
    """
    projector = PartProjector(densities, places)
    evidence = _Evidence(PartProjector(densities, places, sloped=True)) if motions else None
    parts, count, box = len(densities.parts), draws.shape[1], densities.box
    equations = [[NormalEquations(box, 1, images.device) for _ in range(2)] for _ in range(parts)]
    plane = projector.plane
    deviation = images.slice_deviation(plane)
    for number, some, batch in _of_halves(residuals, rows, count):
        ctf, data = plane.take(batch.ctf) / deviation, plane.take(batch.coefficients) / deviation
        if evidence is not None:
            evidence.add(batch, data, ctf, draws[some, :1])
        slices = projector.slices(batch, draws[some])
        ctf, data = (value.repeat_interleave(count, dim=0) for value in (ctf, data))
        others = projector.others(slices)
        share = torch.full((len(data), 1), 1.0 / count, device=images.device)
        for part, rest in enumerate(others):
            alone = data if rest is None else data - ctf * rest
            alone = alone * projector.fields[part].phases(-slices.shifts[part])
            where = interpolate_slices(plane, slices.rotations[part])
            equations[part][number].add(alone, ctf, share, share[:, :, None], where)
    for halves in equations:
        for half in halves:
            half.finish()
    said = None if evidence is None else MotionEvidence(evidence.information, evidence.gradient)
    return PartUpdate([solved_halves(halves) for halves in equations], said)


class _Evidence:
    """Sums of what images, each in one state, say of the motions."""

    def __init__(self, projector: PartProjector) -> None:
        self.projector = projector
        parts, states = projector.places.rotations.shape[:2]
        device = projector.plane.kx.device
        self.information = torch.zeros(parts, states, 6, 6, device=device)
        self.gradient = torch.zeros(parts, states, 6, device=device)

    def add(self, images: Images, data: Tensor, ctf: Tensor, draws: Int[Tensor, "b 1"]) -> None:
        """Add images, whitened."""
        slices = self.projector.slices(images, draws)
        information, gradient, _ = self.projector.evidence(slices, data, ctf)
        for part in range(len(information)):
            self.information[part].index_add_(0, slices.state, information[part])
            self.gradient[part].index_add_(0, slices.state, gradient[part])


@torch.no_grad()
def update_still(
    images: Images, rows: Int[Tensor, " r"], densities: PartDensities, places: PartPlaces, draws: Int[Tensor, "n c"]
) -> Backprojection:
    """The still density: what the parts, averaged over the draws, leave of these rows."""
    if not len(densities.parts):
        return wiener_backprojection(images, order=rows)
    projector = PartProjector(densities, places)
    plane = projector.plane
    deviation = images.slice_deviation(plane)
    equations = [NormalEquations(densities.box, 1, images.device) for _ in range(2)]
    for number, some, batch in _of_halves(images, rows, draws.shape[1]):
        ctf = plane.take(batch.ctf) / deviation
        left = plane.take(batch.coefficients) / deviation - ctf * projector.mean(batch, draws[some])
        one = torch.ones(len(batch), 1, device=images.device)
        equations[number].add(left, ctf, one, one[:, :, None], interpolate_slices(plane, batch.views()))
    for half in equations:
        half.finish()
    return solved_halves(equations)


def _of_halves(images: Images, rows: Tensor, draws: int) -> Iterator[tuple[int, Tensor, FourierImages]]:
    """Batches of one half each, the smaller the more draws an image has."""
    for number in (0, 1):
        some = rows[images.halves[rows] == number]
        for batch, found in images.batches(some.split(max(1, images.batch // draws))):
            yield number, batch, found


def part_slopes(
    projector: PartProjector, value: Complex[Tensor, "e q 4"], rotations: Float[Tensor, "e 3 3"], molecule: Tensor
) -> Complex[Tensor, "e q 6"]:
    """Derivatives of the part's slices by its turn about its pivot and its shift, in the molecule's frame."""
    plane, dtype = projector.plane, value.dtype
    k = torch.stack([plane.kx, plane.ky, torch.zeros_like(plane.kx)], dim=1)
    wave = -2j * torch.pi / projector.side_angstrom
    # A turn w takes R x to R x + w x R x, and k.(w x R x) = w.(R x x k).
    of_turn = torch.linalg.cross(wave * (value[..., 1:] @ rotations.transpose(1, 2).to(dtype)), k.to(dtype)[None])
    # Images that are sampled more coarsely have rotations of a smaller scale.
    turns = molecule / molecule[:, :1].norm(dim=2, keepdim=True)
    of_shift = value[..., :1] * (wave * k)
    return torch.cat([of_turn @ turns.to(dtype), of_shift @ molecule.to(dtype)], dim=-1)


def improved(motions: PartMotions, evidence: MotionEvidence, support: Float[Tensor, "s k"]) -> PartMotions:
    """One Gauss-Newton step of the coefficients of every part."""
    terms, vectors = motions.terms(support).double(), motions.vectors(support)
    size = terms.shape[1]
    precision = torch.tensor([PRIOR_TURN**-2] * 3 + [PRIOR_SHIFT**-2] * 3).double()
    coefficients = []
    for part, old in enumerate(motions.coefficients.double()):
        chain = torch.eye(6).double().repeat(len(support), 1, 1)
        chain[:, :3, :3] = left_jacobian(vectors[part, :, :3]).double()
        information = chain.transpose(1, 2) @ evidence.information[part].double() @ chain
        gradient = torch.einsum("sji,sj->si", chain, evidence.gradient[part].double())
        left = torch.einsum("sj,sk,sab->jakb", terms, terms, information).reshape(6 * size, 6 * size)
        right = torch.einsum("sj,sa->ja", terms, gradient) - precision * old
        left = left + torch.diag(precision.repeat(size))
        step = torch.linalg.solve(left, right.reshape(-1)).view(size, 6)
        moved = terms @ step
        length = moved.square().mean(dim=0)
        longest = max(
            float(length[:3].sum().sqrt()) / LONGEST_TURN, float(length[3:].sum().sqrt()) / LONGEST_SHIFT, 1.0
        )
        coefficients.append((old + step / longest).float())
    return replace(motions, coefficients=torch.stack(coefficients))
