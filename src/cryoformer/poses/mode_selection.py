r"""Which of its possible poses an image has, by expectation maximisation over these alone.

A map that was found at low resolution may be more symmetric than its particle: a spike of three chains, one of them
open, comes out with three alike. Every image then has as many equally good views as the map lays on itself in. Those
are added to what a search found, weights are drawn at random, and map and weights are improved in turn, in a band
wide enough to tell the views apart: within some six steps one of them gathers nearly all weight. Where rough rotations
are known (:mod:`.cone`), many views are too far from these, once their frame is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.images.fourier_images import Images
from cryoformer.poses.cone import Cone, frame_turn
from cryoformer.poses.global_search import PoseModes
from cryoformer.poses.map_alignment import Alignment
from cryoformer.poses.matching import BandImages, views
from cryoformer.poses.stochastic_em import BALL, DecayingEquations, soft_ball

STEPS = 16
# Less than this share of the images changed its best mode: nothing more will come.
SETTLED = 0.003
# Width of the random log weights at the beginning.
DISORDER = 3.0
LEAST_WEIGHT = 5e-3
BATCH = 1024
# Rounds of telling views apart by rough rotations, and of finding the frame of these.
FRAMES = 2


def with_equivalents(modes: PoseModes, alignments: Sequence[Alignment], pixel_size_angstrom: float) -> PoseModes:
    """The modes, and those that a map's alignments with itself make of every image's best one.

    V(x) = V(M x + s), so the view at R with the shift d is that at R M^T with d - (R M^T s)_xy.
    """
    if not alignments:
        return modes
    rotation, shift = modes.best()
    rotations, shifts = list[Tensor](), list[Tensor]()
    for each in alignments:
        turned = rotation @ torch.from_numpy(each.rotation.T).float()
        moved = (turned @ torch.from_numpy(each.shift).float())[:, :2] * pixel_size_angstrom
        rotations.append(turned)
        shifts.append(shift - moved)
    best = modes.log_likelihood.amax(dim=1, keepdim=True).expand(-1, len(alignments))
    return modes.joined(PoseModes(torch.stack(rotations, dim=1), torch.stack(shifts, dim=1), best))


def select_modes(
    images: Images,
    modes: PoseModes,
    shells: float,
    seed: int,
    group: Float[Tensor, "g 3 3"],
    progress: Callable[[float, str], None] = lambda share, said: None,
    disorder: float = DISORDER,
) -> tuple[PoseModes, Float[Tensor, "d d d"]]:
    """The modes with the log likelihoods that they have under the map they give; and that map.

    Args:
        images: not shifted.
        shells: the band that is compared.
        group: rotations that lay the map on itself.
        disorder: of the weights at the beginning; 0 where the likelihoods that modes have are worth something.
    """
    ball, noise = soft_ball(images.box, BALL), torch.randn(modes.log_likelihood.shape, generator=_generator(seed))
    band = _gathered(images, shells)
    weights = torch.softmax(modes.log_likelihood + disorder * noise, dim=1)
    best, volume = modes.log_likelihood.argmax(dim=1), ball
    for step in range(STEPS):
        volume = _map(band, modes, weights, shells, group) * ball
        modes = _scored(band, modes, volume)
        weights, before, best = modes.weights, best, modes.log_likelihood.argmax(dim=1)
        changed = float((best != before).float().mean())
        gain = float(torch.logsumexp(modes.log_likelihood, dim=1).mean())
        progress((step + 1) / STEPS, f"log likelihood {gain:.2f}, {100 * changed:.1f} % of the images changed")
        if step > 2 and changed < SETTLED:
            break
    return modes, volume


def select_within(
    images: Images,
    modes: PoseModes,
    cone_degrees: float,
    shells: float,
    seed: int,
    group: Float[Tensor, "g 3 3"],
    progress: Callable[[float, str], None] = lambda share, said: None,
) -> tuple[PoseModes, Float[Tensor, "d d d"]]:
    """Of modes that were told apart as far as images can, those within a cone about the rotations that images have.

    These are in a frame of their own: that which lies nearest to the best modes on average. Where the map is nearly
    symmetric these are wrong in part, and so is the frame; so one is found with the other in turn.
    """
    given, chosen = images.rotations, modes
    for _ in range(FRAMES):
        turn, _ = frame_turn(chosen.best()[0].double().numpy(), given.double().numpy())
        cone = Cone(given @ torch.from_numpy(turn.T).float(), cone_degrees)
        chosen, volume = select_modes(images, modes.within(cone), shells, seed, group, progress, disorder=0.0)
    return chosen, volume


def _gathered(images: Images, shells: float) -> BandImages:
    """A band of all images, in memory: some two kilobytes each."""
    parts = [BandImages.of(some).band(shells) for _, some in images.batches(images.every())]
    data, weight = (torch.cat([getattr(part, name) for part in parts]) for name in ("data", "weight"))
    return replace(parts[0], data=data, weight=weight)


def _map(
    images: BandImages, modes: PoseModes, weights: Float[Tensor, "n m"], shells: float, group: Float[Tensor, "g 3 3"]
) -> Float[Tensor, "d d d"]:
    sums = DecayingEquations(images.plane.box, group)
    image, mode = (weights > LEAST_WEIGHT).nonzero().T
    for some in torch.arange(len(image)).split(BATCH):
        i, m = image[some], mode[some]
        batch, share = images.take(i), weights[i, m][:, None]
        data = batch.data * batch.phases(modes.shifts[i, m])
        sums.add(batch.plane, modes.rotations[i, m], data * share, batch.weight * share)
    return sums.solve(shells)


def _scored(images: BandImages, modes: PoseModes, volume: Float[Tensor, "d d d"]) -> PoseModes:
    score = torch.full_like(modes.log_likelihood, -torch.inf)
    image, mode = modes.present()
    for some in torch.arange(len(image)).split(BATCH):
        i, m = image[some], mode[some]
        batch = images.take(i)
        slices = views(volume, batch.plane, modes.rotations[i, m])
        product = (slices.conj() * batch.data * batch.phases(modes.shifts[i, m])).real
        score[i, m] = (2 * product - batch.weight * slices.abs().square()).sum(dim=1)
    return replace(modes, log_likelihood=score)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
