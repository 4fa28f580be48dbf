r"""All poses of all images once more, against several states of particles that move by much.

A search against one map finds the poses of particles that look like it. Where two domains swing by fifty degrees,
those at either end of the motion are laid on it by one domain, or the other, or neither. Bad as their poses are, a
linear subspace (:mod:`cryoformer.linear.ppca`) already tells the ends apart; densities along its first axis are then
searched as the one map was. An image keeps its pose, unless another one is likelier under one of them.

Whether that is worth its time a sample of the images says: how many of them have a better view.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cryoformer.images.fourier_images import Images
from cryoformer.imaging.grids import crop_volume
from cryoformer.linear.consensus import reconstruct_consensus
from cryoformer.linear.linear_stage import drawn_rows
from cryoformer.linear.occupancy import fitted_occupancy
from cryoformer.linear.ppca import fit_ppca
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.poses.global_search import APART_DEGREES, FIRST_BEHIND, PoseModes, at, climb, climbing_box, search
from cryoformer.poses.posterior import PosePrior, SlopedDensity

COMPONENTS, MOST_IMAGES = 2, 10_000
# Densities along the first axis, at these quantiles of its latents; which are means, and so too small.
QUANTILES, STRETCH = (0.08, 0.5, 0.92), 1.15
SAMPLE = 500
# Of a sample, the share that has a better view elsewhere, from which on all images are searched.
WORTH = 0.05

Progress = Callable[[float], None]


def moving_search(
    images: Images,
    modes: PoseModes,
    shells: float,
    reach_angstrom: float,
    prior: PosePrior,
    seed: int,
    progress: Progress = lambda share: None,
) -> tuple[PoseModes | None, float]:
    """Poses under states of the particles, or None where hardly any would change; and the share that would.

    Args:
        images: not shifted.
        modes: found against one map.
        shells, reach_angstrom: of the search.
        prior: how far a pose may be from the best place of the search's grid.
    """
    states = moving_states(images, modes, seed)
    count = len(images)
    rows = torch.linspace(0, count - 1, min(SAMPLE, count), device=images.device).round().long()
    sample = _searched(images.take(rows), modes.taken(rows), states, shells, reach_angstrom, prior, seed)
    share = float(_changed(sample, modes.taken(rows)).float().mean())
    if share < WORTH:
        return None, share
    return _searched(images, modes, states, shells, reach_angstrom, prior, seed, progress), share


def moving_states(images: Images, modes: PoseModes, seed: int) -> Float[Tensor, "s d d d"]:
    """Densities of the particles at their best poses, along the first axis of a linear subspace."""
    drawn, settings = drawn_rows(torch.arange(len(images), device=images.device), MOST_IMAGES, seed), PPCASettings()
    rotations, shifts = modes.taken(drawn).best()
    posed = at(images.take(drawn), rotations, shifts)
    consensus = reconstruct_consensus(posed)
    noisy = posed.with_noise(consensus.noise_power)
    found = fit_ppca(
        noisy,
        consensus.volume,
        fitted_occupancy(noisy, consensus),
        COMPONENTS,
        settings.iterations,
        seed,
        tolerance=settings.tolerance,
        contrast=settings.contrast,
    )
    first = STRETCH * torch.quantile(found.latents[:, 0], torch.tensor(QUANTILES, device=images.device))
    mean = found.contrast_prior.mean * found.mean
    return mean + first[:, None, None, None] * found.basis[0]


def _searched(
    images: Images,
    known: PoseModes,
    states: Float[Tensor, "s d d d"],
    shells: float,
    reach_angstrom: float,
    prior: PosePrior,
    seed: int,
    progress: Progress = lambda share: None,
) -> PoseModes:
    """Modes of a search against every state, and the best known ones under each, followed uphill."""
    steps, identity = 2 * len(states), torch.eye(3)[None]
    searched = []
    for number, state in enumerate(states):
        searched.append(search(images, state, shells, reach_angstrom, seed, identity))
        progress((number + 1) / steps)
    best = torch.stack([each.log_likelihood.amax(dim=1) for each in searched]).amax(dim=0)[:, None]
    rotations, shifts = known.best()
    here = PoseModes(rotations[:, None], shifts[:, None], best)
    low, found = images.crop(climbing_box(images.box, shells)), None
    for number, (state, each) in enumerate(zip(states, searched, strict=True)):
        far = each.log_likelihood < best - FIRST_BEHIND
        each = here.joined(replace(each, log_likelihood=each.log_likelihood.masked_fill(far, -torch.inf)))
        density = SlopedDensity(crop_volume(state, low.box)[None], low.pixel_size_angstrom)
        climbed = climb(low, density, each, prior, 3)
        found = climbed if found is None else found.joined(climbed)
        progress((len(states) + number + 1) / steps)
    assert found is not None
    return found


def _changed(modes: PoseModes, before: PoseModes) -> Bool[Tensor, " n"]:
    """Which images have another view than before."""
    one, other = modes.best()[0], before.best()[0]
    return (one * other).sum(dim=(1, 2)) < 1 + 2 * math.cos(math.radians(APART_DEGREES))
