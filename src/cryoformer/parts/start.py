r"""A first idea of the parts, from densities that the trained network decodes.

States s of the population have densities D_s; a density in the reference's frame, memberships and motions are fitted
to all of them at once,

    D_s(x) ~ sum_v  c_v  sum_m a_m(v) (1 + f_m(z_s))  delta(x - sum_m a_m(v) T_m(z_s) v),

every voxel v moved by the blend of its parts' motions (part 0 stands still) and splatted trilinearly; f_m, by which a
part fades, is nothing unless density comes and goes. Memberships are
the softmax of logits on a coarse grid. Both sides are blurred at first, less and less, so that a part finds its way
over more than its own width. Decoded densities are averages over what images leave open, so motions come out too
small here; the images themselves correct them (:mod:`.update`).
"""

import math
from dataclasses import dataclass

import roma
import torch
from jaxtyping import Bool, Float, Int
from scipy.cluster.vq import kmeans2
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from cryoformer.decode.density_model import LEAST_WINDOW
from cryoformer.imaging.grids import grid_points, resample_volume
from cryoformer.parts.motion import LatentTerms, PartMotions

STATES = 48
STEPS = 250
STATES_A_STEP = 6
GRID = 16
VOXEL_ANGSTROM = 4.5  # at least: where a part is and how it moves shows at low resolution
DILATION_ANGSTROM = 10.0
BLUR_ANGSTROM, BLUR_UNTIL = 14.0, 0.6
TURN_UNIT, SHIFT_UNIT = 0.3, 10.0  # radians and Angstrom that one of the fitted numbers stands for
SMOOTHNESS = 0.02
MEMBER_WIDTH_ANGSTROM = 40.0
# Of its density at the reference, root mean square over the states: more is no part that moves.
MOST_FADING = 0.2


@dataclass(frozen=True)
class PartStart:
    """What the decoded densities say of the parts.

    Attributes:
        members: soft membership of the still part, then of each part, at the reference.
        density: [z, y, x] at the reference, of the region alone.
        explained: share of the variance of the decoded densities over the states.
    """

    motions: PartMotions
    members: Float[Tensor, "m1 d d d"]
    density: Float[Tensor, "d d d"]
    explained: float

    @property
    def box(self) -> int:
        return self.density.shape[-1]


class _Blend(nn.Module):
    """Density, memberships and motions, as they are fitted, on a cube of voxels about ``origin``."""

    def __init__(
        self,
        density: Tensor,
        points: Tensor,
        side: int,
        terms: int,
        pivots: Tensor,
        logits: Tensor,
        unit: Tensor,
        *,
        fading: bool,
    ) -> None:
        super().__init__()
        self.side, self.points, self.pivots = side, points, pivots  # voxels from the cube's centre
        self.unit = unit
        self.density = nn.Parameter(density)
        self.logits = nn.Parameter(logits)
        generator = torch.Generator().manual_seed(0)
        self.coefficients = nn.Parameter(1e-3 * torch.randn(len(pivots), terms, 6, generator=generator))
        self.fading = nn.Parameter(torch.zeros(len(pivots), terms), requires_grad=fading)

    def members(self) -> Float[Tensor, "m1 p"]:
        return member_values(self.logits, self.points / (self.side / 2))

    def forward(self, terms: Float[Tensor, "b j"]) -> Float[Tensor, "b s s s"]:
        vectors = (terms @ self.coefficients) * self.unit
        rotations = roma.rotvec_to_rotmat(vectors[..., :3])
        away = self.points - self.pivots[:, None]  # [m, p, 3]
        centres = self.pivots[:, None] + vectors[..., 3:]
        moved = away[:, None] @ rotations.transpose(-1, -2) + centres[:, :, None]
        members = self.members()
        places = members[0, :, None] * self.points + torch.einsum("mp,mbpi->bpi", members[1:], moved)
        there = members[0] + torch.einsum("mp,mb->bp", members[1:], 1 + self.strengths(terms))
        return _splat(self.density * there, places + self.side // 2, self.side)

    def strengths(self, terms: Float[Tensor, "b j"]) -> Float[Tensor, "m b"]:
        """By which share more of a part there is than at the reference."""
        return self.fading @ terms.T


def member_values(logits: Float[Tensor, "1 m1 g g g"], unit_points: Float[Tensor, "p 3"]) -> Float[Tensor, "m1 p"]:
    """Memberships at points of [-1, 1]^3."""
    sampled = nn.functional.grid_sample(
        logits, unit_points[None, None, None], align_corners=True, padding_mode="border"
    )
    return torch.softmax(3 * sampled[0, :, 0, 0], dim=0)


def _splat(values: Float[Tensor, "b p"], places: Float[Tensor, "b p 3"], side: int) -> Float[Tensor, "b s s s"]:
    low = places.detach().floor()
    high = places - low
    low = low.long()
    volume = values.new_zeros(len(places), side**3)
    for corner in range(8):
        bits = [(corner >> axis) & 1 for axis in range(3)]
        share = values
        index = torch.zeros_like(low[..., 0])
        for axis, bit in enumerate(bits):
            share = share * (high[..., axis] if bit else 1 - high[..., axis])
            index = index + (low[..., axis] + bit).clamp(0, side - 1) * side**axis
        volume = volume.scatter_add(1, index, share)
    return volume.view(-1, side, side, side)


def start_parts(
    densities: Float[Tensor, "s d d d"],
    latents: Float[Tensor, "s k"],
    terms: LatentTerms,
    region: Bool[Tensor, "d d d"],
    pixel_size_angstrom: float,
    parts: int,
    seed: int,
    steps: int = STEPS,
    *,
    fading: bool = False,
) -> PartStart:
    """Fit so many parts to decoded densities within a region, all of one (coarse) box.

    ``fading``: parts may come and go as well as move; those that do are left out of what is returned, unless all do.
    """
    box = densities.shape[-1]
    lower, side = _cube(region)
    crop = tuple(slice(int(a), int(a) + side) for a in lower)
    inside, target = region[crop].reshape(-1), densities[(slice(None), *crop)] * region[crop]
    scale = target.std()
    target = target / scale
    # Voxels (x, y, z) from the centre of the cube.
    points = grid_points(side, 1.0)[inside]
    offset = (lower.flip(0) + side // 2 - box // 2).float()  # of the cube's centre from the box's
    variance = target.var(dim=0).reshape(-1)[inside]
    pivots, logits = _seeds(points, variance, parts, side, MEMBER_WIDTH_ANGSTROM / pixel_size_angstrom, seed)
    white = (latents - terms.reference) @ terms.whitening
    first = target[int(white.square().sum(dim=1).argmin())].reshape(-1)[inside].clone()
    unit = torch.tensor([TURN_UNIT] * 3 + [SHIFT_UNIT / pixel_size_angstrom] * 3)
    blend = _Blend(first, points, side, len(terms.scale), pivots, logits, unit, fading=fading)
    shares = terms(latents)
    total = (target - target.mean(dim=0)).square().sum() / len(target)
    _fit(blend, shares, target, total, BLUR_ANGSTROM / pixel_size_angstrom, steps, seed)
    with torch.no_grad():
        left = sum(float((blend(shares[i : i + 1]) - target[i]).square().sum()) for i in range(len(target)))
        grid = grid_points(box, 1.0) - offset
        members = member_values(blend.logits, grid / (side / 2)).view(-1, box, box, box)
        members[1:] *= ~(grid.abs() > side / 2).any(dim=1).view(box, box, box)
        density = torch.zeros(box**3)
        density[region.reshape(-1)] = blend.density * scale
        angstrom = torch.tensor([TURN_UNIT] * 3 + [SHIFT_UNIT] * 3)
        stays = blend.strengths(shares).square().mean(dim=1).sqrt() < MOST_FADING
        if not stays.any():
            stays = ~stays
        centres, coefficients = (pivots + offset) * pixel_size_angstrom, blend.coefficients * angstrom
        motions = PartMotions(terms, centres[stays], coefficients[stays])
        members = torch.cat([1 - members[1:][stays].sum(dim=0, keepdim=True), members[1:][stays]])
    return PartStart(motions, members, density.view(box, box, box), 1 - left / len(target) / float(total))


def coarse_box(box: int, pixel_size_angstrom: float) -> int:
    """The box at which parts are looked for."""
    return min(box, 2 * int(box * pixel_size_angstrom / VOXEL_ANGSTROM / 2))


def coarse_region(window: Float[Tensor, "d d d"], box: int, pixel_size_angstrom: float) -> Bool[Tensor, "e e e"]:
    """Where density varies, and somewhat beyond, at a coarse box."""
    inside = (resample_volume(window, box) > LEAST_WINDOW).numpy()
    return torch.from_numpy(distance_transform_edt(~inside) * pixel_size_angstrom <= DILATION_ANGSTROM)


def _fit(blend: _Blend, shares: Tensor, target: Tensor, total: Tensor, widest: float, steps: int, seed: int) -> None:
    rates = {"density": 2e-2, "logits": 3e-2, "coefficients": 1e-2, "fading": 1e-2}
    groups = [{"params": [getattr(blend, name)], "lr": rate} for name, rate in rates.items()]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    squares = _squared_frequencies(blend.side)
    for step in range(steps):
        done = step / steps
        blur = widest * max(0.0, 1 - done / BLUR_UNTIL)
        some = torch.randint(len(target), (STATES_A_STEP,), generator=generator)
        for group, rate in zip(optimizer.param_groups, rates.values(), strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / 30) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        error = blend(shares[some]) - target[some]
        if blur > 0.3:
            smooth = torch.exp(-2 * math.pi**2 * blur**2 * squares)
            error = torch.fft.irfftn(torch.fft.rfftn(error, dim=(1, 2, 3)) * smooth, s=error.shape[1:], dim=(1, 2, 3))
        rough = sum(blend.logits.diff(dim=axis).square().mean() for axis in (2, 3, 4))
        loss = error.square().sum() / len(some) / total + SMOOTHNESS * rough
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _cube(region: Bool[Tensor, "d d d"]) -> tuple[Int[Tensor, "3"], int]:
    """First voxel (z, y, x) and even side of the smallest cube about a region with two voxels to spare."""
    box = region.shape[-1]
    where = region.nonzero()
    low, high = where.amin(dim=0), where.amax(dim=0)
    side = min(box, 2 * math.ceil((int((high - low).max()) + 5) / 2))
    lower = ((low + high + 1) // 2 - side // 2).clamp(0, box - side)
    return lower, side


def _seeds(
    points: Tensor, variance: Tensor, parts: int, side: int, width: float, seed: int
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, "1 m1 g g g"]]:
    """Pivots where density varies most, apart from each other, and logits that fall off around them."""
    weights = (variance / variance.sum()).double()
    drawn = torch.multinomial(weights, 4000, replacement=True, generator=torch.Generator().manual_seed(seed))
    centres, _ = kmeans2(points[drawn].numpy(), parts, seed=seed, minit="++")
    pivots = torch.from_numpy(centres).float()
    axis = torch.linspace(-1, 1, GRID) * side / 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    grid = torch.stack([x, y, z], dim=-1)
    logits = torch.zeros(1, parts + 1, GRID, GRID, GRID)
    for number, pivot in enumerate(pivots):
        logits[0, number + 1] = 1.0 - (grid - pivot).square().sum(dim=-1) / (2 * width**2)
    return pivots, logits


def _squared_frequencies(side: int) -> Tensor:
    k, half = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    return k[:, None, None] ** 2 + k[None, :, None] ** 2 + half**2
