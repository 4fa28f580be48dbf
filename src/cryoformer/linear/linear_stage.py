"""Stage B as a run does it: occupancy from the consensus, PPCA at low resolution, the flexible region, and the
linear model at full resolution, which is what the transformer is compared with."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages, Images, checkerboard
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.imaging.grids import crop_volume, enlarge_volume, resample_volume
from cryoformer.imaging.slices import shell_power, volume_from_fourier
from cryoformer.linear.consensus import Consensus
from cryoformer.linear.focus import divide
from cryoformer.linear.occupancy import EDGE_ANGSTROM, fitted_occupancy, flexible_region, soft_edge
from cryoformer.linear.ppca import PPCA, ContrastPrior, component_precision, expectation, fit_ppca, linear_volumes
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.linear.regions import EVERYWHERE, Regions
from cryoformer.memory import LARGEST_LINEAR_BOX
from cryoformer.progress import RunLog

FLEXIBLE_DILATION_ANGSTROM = 0.0
# An image without a particle still has a contrast: a negative or vanishing one would turn the noise round.
LEAST_CONTRAST = 0.1


@dataclass(frozen=True)
class LinearStage:
    """Results of stage B, volumes at the images' box: what ``checkpoints/subspace.safetensors`` holds."""

    mean: Float[Tensor, "d d d"]
    basis: Float[Tensor, "k d d d"]
    latents: Float[Tensor, "n k"]
    covariance: Float[Tensor, "n k k"]
    occupancy: Float[Tensor, "d d d"]
    flexible: Float[Tensor, "d d d"]
    density_scale: Float[Tensor, ""]
    # Of every image, of mean 1; None for a run of version 0.1.0.
    contrast: Float[Tensor, " n"] | None = None
    # With a focus, what moves outside of it: taken off the images before anything else is made of them.
    elsewhere: Float[Tensor, "q d d d"] | None = None
    elsewhere_latents: Float[Tensor, "n q"] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint holds them."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    @property
    def off_focus(self) -> LinearMotion | None:
        """What moves outside of the focus."""
        if self.elsewhere is None or self.elsewhere_latents is None:
            return None
        return LinearMotion(self.elsewhere, self.elsewhere_latents)


def fit_linear_stage(
    images: Images,
    consensus: Consensus,
    settings: PPCASettings,
    seed: int,
    log: RunLog,
    rows: Int[Tensor, " m"] | None = None,
    regions: Regions = EVERYWHERE,
) -> LinearStage:
    """Occupancy, PPCA, flexible region, and the linear volumes at full resolution.

    PPCA and flexible region come from ``rows`` alone (None: all images), so that the others, held out of the
    network's training, are held out of what it starts from too; their latents are read with the model that is found.
    ``regions``, at the images' box, say where density can be and where it can vary, instead of all that is found.
    """
    low = images.crop(min(settings.box, images.box))
    mean = crop_volume(consensus.volume, low.box)
    used = torch.arange(images.part.total, device=images.device) if rows is None else rows
    here = regions.at(low.box)
    occupancy = fitted_occupancy(low, consensus, used) if here.solvent is None else here.solvent
    ppca, elsewhere = _fit(low, mean, occupancy, settings, seed, log, used, here)
    gather = images.part.processes.gather
    contrast = _contrast(ppca, images, used, log)
    low, images = low.with_contrast(contrast), images.with_contrast(contrast)
    ppca = replace(ppca, contrast=None, contrast_prior=ContrastPrior())
    if elsewhere is not None:
        elsewhere = replace(elsewhere, contrast=None, contrast_prior=ContrastPrior())
        low = low.minus_motion(LinearMotion(elsewhere.basis, gather(elsewhere.latents)))
    flexible = _flexible(low.draw(drawn_rows(used, settings.images, seed)), ppca, occupancy, here)
    occupancy = torch.maximum(occupancy, flexible) if here.solvent is None else occupancy
    full_occupancy = resample_volume(occupancy, images.box) if regions.solvent is None else regions.solvent
    off: dict[str, Tensor] = {}
    if elsewhere is not None and regions.moving is not None:
        outside = at_full_box(images, elsewhere, consensus.volume, full_occupancy, moving=1 - regions.moving)
        off = {"elsewhere": outside.basis, "elsewhere_latents": gather(elsewhere.latents)}
        images = images.minus_motion(LinearMotion(*off.values()))
    full = at_full_box(images, ppca, consensus.volume, full_occupancy, moving=regions.moving)
    ppca = replace(ppca, latents=gather(ppca.latents), covariance=gather(ppca.covariance))
    ratio = (images.box / low.box) ** 3
    deviation = _deviation(ppca, used)[flexible > 0.5].mean() / ratio
    log.record(
        stage="subspace",
        dimension=ppca.dimension,
        log_likelihood=ppca.log_likelihood,
        occupied=float(occupancy.mean()),
        flexible=float(flexible.mean()),
    )
    log.say(
        f"{ppca.dimension} latent dimensions; {100 * float(occupancy.mean()):.1f} % of the box is occupied, "
        f"{100 * float(flexible.mean()):.1f} % flexible"
    )
    return LinearStage(
        mean=full.mean,
        basis=full.basis,
        latents=ppca.latents,
        covariance=ppca.covariance,
        occupancy=full_occupancy,
        flexible=resample_volume(flexible, images.box),
        density_scale=deviation,
        contrast=contrast,
        **off,
    )


def _contrast(subspace: PPCA, images: Images, rows: Int[Tensor, " m"], log: RunLog) -> Float[Tensor, " n"]:
    """Contrasts of all images, of mean 1 over these rows."""
    if subspace.contrast is None:
        return torch.ones(images.part.total, device=images.device)
    contrast = images.part.processes.gather(subspace.contrast)
    contrast = (contrast / contrast[rows].mean()).clamp_min(LEAST_CONTRAST)
    log.record(stage="contrast", deviation=float(contrast.std()), prior=subspace.contrast_prior.spread)
    log.say(f"contrasts of the images scatter by {100 * subspace.contrast_prior.spread:.0f} %")
    return contrast


def _fit(
    low: Images,
    mean: Tensor,
    occupancy: Tensor,
    settings: PPCASettings,
    seed: int,
    log: RunLog,
    rows: Tensor,
    regions: Regions,
) -> tuple[PPCA, PPCA | None]:
    """EM over (a draw of) ``rows``; latents of all images that are here. And what moves that is not to be looked at.

    With a focus, all motion is looked for at first, so that motion elsewhere is no noise to what is looked at, and the
    motions that lie in the focus are kept. Where none does, components may be there alone from the start.
    """
    drawn, processes = drawn_rows(rows, settings.images, seed), low.part.processes

    def report(iteration: int, state: PPCA) -> None:
        facts = f"log likelihood {state.log_likelihood:+.3f} per image"
        log.advance((iteration + 1) / settings.iterations, facts)
        log.record(stage="subspace", epoch=iteration, log_likelihood=state.log_likelihood)

    def fitted(moving: Tensor | None) -> PPCA:
        found = fit_ppca(
            low if len(drawn) == low.part.total else low.draw(drawn),
            mean,
            occupancy,
            settings.dimension,
            settings.iterations,
            seed,
            report,
            settings.tolerance,
            contrast=settings.contrast,
            moving=moving,
        )
        return read_others(low, found, drawn).informative(processes)

    every = fitted(None)
    if regions.moving is None:
        return every, None
    found = divide(every, regions.moving, processes)
    said = ", ".join(f"{100 * share:.0f} %" for share in found.shares)
    log.record(stage="focus", shares=found.shares, kept=0 if found.within is None else found.within.dimension)
    if found.within is not None:
        kept = f"{found.within.dimension} of {len(found.shares)} are kept"
        log.say(f"shares of the motions that lie in the focus: {said}; {kept}")
        return found.within, found.elsewhere
    log.say(f"shares of the motions that lie in the focus: {said}; none does, so motion is looked for there alone")
    return fitted(regions.moving), None


def drawn_rows(rows: Int[Tensor, " m"], most: int, seed: int) -> Int[Tensor, " d"]:
    """At most so many of the rows, at random, in their order: a few volumes of a low box need no more images."""
    if len(rows) <= most:
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + 3))[:most]
    return rows[order.sort().values.to(rows.device)]


def read_others(images: Images, ppca: PPCA, rows: Int[Tensor, " m"]) -> PPCA:
    """A model that was fitted to ``rows`` with the latents of all images: the E-step for those it has not seen."""
    if len(rows) == images.part.total:
        return ppca
    here = images.part.here(rows)
    placed = _unread(ppca, len(images))
    placed.latents[here], placed.covariance[here] = ppca.latents, ppca.covariance
    if placed.contrast is not None and ppca.contrast is not None:
        placed.contrast[here] = ppca.contrast
    unread = torch.ones(len(images), dtype=torch.bool, device=images.device)
    unread[here] = False
    read, _ = expectation(images, placed, accumulate=False, rows=unread.nonzero()[:, 0])
    return replace(read, log_likelihood=ppca.log_likelihood)


def _unread(ppca: PPCA, count: int) -> PPCA:
    """The same densities, for so many images of which nothing is known."""
    k, device = ppca.dimension, ppca.mean.device
    covariance = torch.eye(k, device=device).repeat(count, 1, 1)
    contrast = None if ppca.contrast is None else torch.ones(count, device=device)
    latents = torch.zeros(count, k, device=device)
    return replace(ppca, latents=latents, covariance=covariance, contrast=contrast)


def _flexible(low: FourierImages, ppca: PPCA, occupancy: Tensor, regions: Regions) -> Tensor:
    """Soft window of what varies, from the two halves of the images.

    A latent knows of the noise of its own image, and a component that fits noise would be found again in both halves.
    So latents are read from every second Fourier coefficient, and the densities estimated from the others.
    """
    power = shell_power(torch.cat([ppca.mean[None], ppca.basis]))
    prior = component_precision(power, occupancy, regions.moving)
    fields = checkerboard(low)
    read = [expectation(field, _unread(ppca, len(low)), accumulate=False)[0] for field in fields]
    halves = []
    for half in (0, 1):
        found = [expectation(field, latents, rows=low.half(half), fixed=True)[1]
                 for field, latents in zip(fields, reversed(read), strict=True)]  # fmt: skip
        assert found[0] is not None
        assert found[1] is not None
        halves.append(volume_from_fourier(found[0].merge(found[1]).solve(prior)[0], low.box)[1:])
    region = flexible_region(halves[0], halves[1], occupancy, low.pixel_size_angstrom, regions.moving)
    window = torch.from_numpy(soft_edge(region, low.pixel_size_angstrom, FLEXIBLE_DILATION_ANGSTROM, EDGE_ANGSTROM))
    window = regions.varying(window.to(low.device))
    return window if regions.solvent is None else window * regions.solvent


def at_full_box(
    images: Images,
    ppca: PPCA,
    consensus: Float[Tensor, "d d d"],
    occupancy: Float[Tensor, "d d d"],
    rows: Int[Tensor, " m"] | None = None,
    moving: Float[Tensor, "d d d"] | None = None,
) -> PPCA:
    """Linear volumes at the box of the images: the basis is expected to have the mean's spectrum, on its own scale.

    Beyond the band of ``LARGEST_LINEAR_BOX`` the mean is the consensus, and nothing varies.

    ``rows``: the images they are made from (None: all). ``moving``: where components may be (None: everywhere).
    """
    low_power = shell_power(torch.cat([ppca.mean[None], ppca.basis]))
    share = low_power.sum(dim=1) / low_power[0].sum()
    box = min(images.box, LARGEST_LINEAR_BOX)
    still, mask = consensus * occupancy, resample_volume(occupancy, box)
    low_still = crop_volume(still, box)
    window = None if moving is None else resample_volume(moving, box)
    prior = component_precision(share[:, None] * shell_power(low_still[None]), mask, window)
    found = linear_volumes(images.crop(box), ppca, mask, prior, rows, window)
    if box == images.box:
        return found
    return replace(
        found,
        mean=still + enlarge_volume(found.mean - low_still, images.box),
        basis=torch.stack([enlarge_volume(volume, images.box) for volume in found.basis]),
    )


def _deviation(ppca: PPCA, rows: Tensor) -> Tensor:
    """Standard deviation of every voxel over the conformations, as these rows show it."""
    latents = ppca.latents[rows]
    spread = latents - latents.mean(dim=0)
    second = spread.T @ spread / len(spread)
    flat = ppca.basis.flatten(1)
    return torch.einsum("jp,jk,kp->p", flat, second, flat).clamp_min(0).sqrt().view(ppca.mean.shape)
