r"""All poses of all images once more, against maps that all images make at the poses found.

A map from nothing is made of few images in a narrow band. That at the poses found says more, and its noise is known, so
another search finds more poses; and so on, as long as it changes views of the images. Particles that move by much have
several such maps. Where two domains swing by fifty degrees, images of either end of the motion are laid on one map by
one domain, or the other, or neither. Bad as their poses are, a linear subspace (:mod:`cryoformer.linear.ppca`) already
tells the ends apart, so densities along its first axis are searched, all at once. An image keeps its pose, unless
another one is likelier under one of them.

Whether it is worth its time a sample of the images says: how many of them have a better view.
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
# Times that one map is searched, at most. Several take as long together as one several times, and find all at once.
MOST_ROUNDS = 4
SAMPLE = 500
# Of a sample, the share that has a better view elsewhere, from which on all images are searched against several maps,
# and against one: that takes less, and poses get better where views stay, too.
WORTH, WORTH_ONE = 0.05, 0.005

Progress = Callable[[float], None]


class RepeatedSearch:
    """Searches against maps at the poses of the search before.

    Args:
        images: not shifted.
        shells, reach_angstrom: of every search.
        prior: how far a pose may be from the best place of a search's grid.
        over: whether the time is over.
        group: rotations that lay the particle on itself. Of more than one, every image sees a part of a density that
            moves: there is one map for all.
    """

    def __init__(
        self,
        images: Images,
        shells: float,
        reach_angstrom: float,
        prior: PosePrior,
        group: Float[Tensor, "g 3 3"],
        seed: int,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.over = over
        self.images, self.shells, self.reach, self.prior = images, shells, reach_angstrom, prior
        self.group, self.seed = group, seed

    def run(self, modes: PoseModes, progress: Progress = lambda share: None) -> tuple[PoseModes, list[float]]:
        """The last modes that were worth it, and the share of a sample that has better views, of every round."""
        count, shares = len(self.images), list[float]()
        rows = torch.linspace(0, count - 1, min(SAMPLE, count), device=self.images.device).round().long()
        for number in range(MOST_ROUNDS if len(self.group) > 1 else 1):
            if self.over():
                break
            maps, noise = self.maps(modes)
            before = modes.taken(rows)
            sample = self._searched(self.images.take(rows).with_noise(noise), before, maps, number)
            shares.append(float(_changed(sample, before, self.group).float().mean()))
            if shares[-1] < (WORTH if len(self.group) == 1 else WORTH_ONE):
                break
            modes = self._searched(self.images.with_noise(noise), modes, maps, number, progress)
        return modes, shares

    def maps(self, modes: PoseModes) -> tuple[Float[Tensor, "s d d d"], Float[Tensor, " k"]]:
        """One map at these poses, or states along the first axis of a linear subspace; and the noise per shell."""
        drawn = drawn_rows(torch.arange(len(self.images), device=self.images.device), MOST_IMAGES, self.seed)
        posed = at(self.images.take(drawn), *modes.taken(drawn).best())
        consensus, settings = reconstruct_consensus(posed, self.group), PPCASettings()
        noisy = posed.with_noise(consensus.noise_power)
        mask = fitted_occupancy(noisy, consensus)
        if len(self.group) > 1:
            return (consensus.volume * mask)[None], consensus.noise_power
        found = fit_ppca(
            noisy,
            consensus.volume,
            mask,
            COMPONENTS,
            settings.iterations,
            self.seed,
            tolerance=settings.tolerance,
            contrast=settings.contrast,
        )
        first = STRETCH * torch.quantile(found.latents[:, 0], torch.tensor(QUANTILES, device=mask.device))
        mean = found.contrast_prior.mean * found.mean
        return mean + first[:, None, None, None] * found.basis[0], consensus.noise_power

    def _searched(
        self,
        images: Images,
        known: PoseModes,
        maps: Float[Tensor, "s d d d"],
        number: int,
        progress: Progress = lambda share: None,
    ) -> PoseModes:
        """Modes of a search against every map, and the best known ones under each, followed uphill."""
        steps, searched = 2 * len(maps), []
        for place, volume in enumerate(maps):
            # Another grid every time.
            seed = self.seed + 1 + number
            searched.append(search(images, volume, self.shells, self.reach, seed, self.group))
            progress((place + 1) / steps)
        best = torch.stack([each.log_likelihood.amax(dim=1) for each in searched]).amax(dim=0)[:, None]
        rotations, shifts = known.best()
        here = PoseModes(rotations[:, None], shifts[:, None], best)
        low, found = images.crop(climbing_box(images.box, self.shells)), None
        for place, (volume, each) in enumerate(zip(maps, searched, strict=True)):
            far = each.log_likelihood < best - FIRST_BEHIND
            joined = here.joined(replace(each, log_likelihood=each.log_likelihood.masked_fill(far, -torch.inf)))
            density = SlopedDensity(crop_volume(volume, low.box)[None], low.pixel_size_angstrom)
            climbed = climb(low, density, joined, self.prior, 3)
            found = climbed if found is None else found.joined(climbed)
            progress((len(maps) + place + 1) / steps)
        assert found is not None
        return found


def _changed(modes: PoseModes, before: PoseModes, group: Float[Tensor, "g 3 3"]) -> Bool[Tensor, " n"]:
    """Which images have another view than before, and not one that looks the same in this point group."""
    one, other = modes.best()[0], before.best()[0]
    trace = torch.einsum("nij,gjk,nik->ng", other, group.to(other), one).amax(dim=1)
    return trace < 1 + 2 * math.cos(math.radians(APART_DEGREES))
