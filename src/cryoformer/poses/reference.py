r"""What images are compared with when their poses are refined: the density of their own half, still or moving.

A still density is the half map, Wiener-filtered by the agreement of the two and masked. A moving one is the linear
subspace of the half's images, mean and components. The two halves never see each other.

Turning every particle of a conformation, and all its density the other way, changes no image: which frame conformations
are in, the images do not say. Poses that were found against a still density are in the frame of its best rigid fit.
:func:`kept_frame` brings them back into the frame of the poses given: what can be predicted of (w, d) from the latents
is taken off, because errors of given poses have nothing to do with how a particle is bent.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import Images
from cryoformer.imaging.grids import crop_volume, resample_volume
from cryoformer.linear.consensus import Consensus
from cryoformer.linear.linear_stage import at_full_box, drawn_rows, read_others
from cryoformer.linear.occupancy import fitted_occupancy
from cryoformer.linear.ppca import PPCA, fit_ppca
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.poses.posterior import SlopedDensity

COMPONENTS = 4
MOST_IMAGES = 10_000  # of a half, for the EM
# Contrasts that scatter by less are taken to be the same.
LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class PoseReference:
    """The density of one half, the rows of its images, and where their latents start (none of a still density).

    ``conformations``: how many of the latents stand for motion; one after them may stand for the contrast.
    """

    density: SlopedDensity
    rows: Int[Tensor, " m"]
    latents: Float[Tensor, "m k"]
    conformations: int = 0


def still_references(images: Images, consensus: Consensus) -> Iterator[PoseReference]:
    """Either half map, as its images are compared with it."""
    mask = fitted_occupancy(images, consensus)
    for number in (0, 1):
        rows = images.half(number)
        density = SlopedDensity((consensus.filtered_half(number) * mask)[None], images.pixel_size_angstrom)
        yield PoseReference(density, rows, torch.zeros(len(rows), 0, device=images.device))


def moving_references(
    images: Images, consensus: Consensus, first_box: int, seed: int, known: dict[int, Float[Tensor, "k d d d"]]
) -> Iterator[PoseReference]:
    """The linear subspace of either half, found at ``first_box``, its volumes then solved for at that of ``images``.

    ``known``: components of either half at poses before, from which it is sought; they are replaced by those found.
    """
    settings, low = PPCASettings(), images.crop(min(first_box, images.box))
    mask = fitted_occupancy(low, consensus)
    for number in (0, 1):
        rows, mean = images.half(number), consensus.filtered_half(number)
        drawn = drawn_rows(rows, MOST_IMAGES, seed)
        found = fit_ppca(
            low.draw(drawn),
            crop_volume(mean, low.box),
            mask,
            COMPONENTS,
            settings.iterations,
            seed,
            tolerance=settings.tolerance,
            contrast=settings.contrast,
            start=known.get(number),
        )
        found = read_others(low, found, drawn).informative()
        known[number] = found.basis.cpu()
        if images.box > low.box:
            found = at_full_box(images, found, mean, resample_volume(mask, images.box), rows)
            # These volumes were found with the contrasts, of whatever mean, and have it in them.
            found = replace(found, contrast_prior=replace(found.contrast_prior, mean=1.0))
        volumes, latents = _with_contrast(found)
        yield PoseReference(
            SlopedDensity(volumes, images.pixel_size_angstrom), rows, latents[rows], conformations=found.dimension
        )


def _with_contrast(found: PPCA) -> tuple[Float[Tensor, "q d d d"], Float[Tensor, "n k"]]:
    """Volumes and latents where the contrast is one latent more: a_i mu = m mu + ((a_i - m) / (m s)) m s mu."""
    mean, spread = found.contrast_prior.mean, found.contrast_prior.spread
    volumes = torch.cat([mean * found.mean[None], found.basis])
    if found.contrast is None or spread < LEAST_SPREAD:
        return volumes, found.latents
    contrast = (found.contrast - 1) / spread
    return torch.cat([volumes, spread * volumes[:1]]), torch.cat([found.latents, contrast[:, None]], dim=1)


def kept_frame(
    mean: Float[Tensor, "n 5"], given: Float[Tensor, "n 3 3"], latents: Float[Tensor, "n k"]
) -> Float[Tensor, "n 5"]:
    """(w, d) without what a polynomial of second degree in the latents predicts of it.

    Turns are compared in the frame of the molecule, R^T w; a shift of the molecule by T is d = (R T)_xy.

    Args:
        given: rotations that the deviations refer to.
    """
    if latents.shape[1] == 0:
        return mean
    one, (i, j) = torch.ones_like(latents[:, :1]), torch.triu_indices(latents.shape[1], latents.shape[1])
    terms = torch.cat([one, latents, latents[:, i] * latents[:, j]], dim=1)
    turns = torch.einsum("nij,ni->nj", given, mean[:, :3])
    turned = torch.einsum("nij,nj->ni", given, turns - _predicted(terms, turns))
    # Two equations an image for three coordinates a term.
    rows = torch.einsum("nij,nt->nijt", given[:, :2], terms).flatten(2).flatten(0, 1)
    shifts = mean[:, 3:].reshape(-1, 1)
    return torch.cat([turned, (shifts - _predicted(rows, shifts)).view(-1, 2)], dim=1)


def _predicted(terms: Float[Tensor, "n p"], values: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    """Least squares, shrunk by as much as p terms explain of noise by chance (James and Stein, 1961)."""
    count, number = terms.shape
    if count <= number:
        return torch.zeros_like(values)
    fitted = terms @ torch.linalg.lstsq(terms, values).solution
    by_chance = number * (values - fitted).square().sum() / (count - number)
    return fitted * (1 - by_chance / fitted.square().sum().clamp_min(1e-30)).clamp_min(0.0)
