r"""Stage B: a linear model of the densities, by closed-form EM for 3D probabilistic PCA (PPCA).

    Y_i = C_i P_i (a_i mu + sum_j z_ij U_j) + noise,   z_i ~ N(0, I),   a_i ~ N(m, (m s)^2)

a_i is the contrast of an image: how strong its particle is, in thicker ice or beside a wrong defocus. Left out of the
model, real images spend a component on it. m and s are estimated (s = 0: all images are taken to have contrast m).
With A_i = C_i P_i (m s mu, U) and r_i = Y_i - m C_i P_i mu, whitened by the noise spectrum:

    E-step   S_i = (A_i^H A_i + I)^-1,   z_i = S_i A_i^H r_i
    M-step   a (k + 1) x (k + 1) system per Fourier voxel (:mod:`.normal_equations`), then the mask of what is occupied

The prior of every component is Gaussian per shell with a variance that is estimated along the way (automatic
relevance determination): a component that the data do not support shrinks to nothing, which chooses k. The paper has
no such stage; it conditions the transformer from the first step on (see the docs, theory).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cryoformer.communication import ALONE, Processes
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.grids import half_volume_radii
from cryoformer.imaging.slices import (
    PADDING,
    SliceInterpolation,
    SlicePlane,
    fourier_from_volume,
    interpolate_slices,
    read_rows,
    shell_power,
    volume_from_fourier,
)
from cryoformer.linear.normal_equations import NormalEquations

# A component is kept if knowing it narrows the average particle's coordinate by at least this share of its variance.
LEAST_INFORMATION = 0.02
# EM creeps where images say little of their latent. Steps grow as long as the likelihood does (Salakhutdinov & Roweis,
# ICML 2003), from the plain step of 1, below the 2 at which EM stops to converge.
STEP_GROWTH, LARGEST_STEP = 1.5, 1.9
# It begins slowly, too: so many steps are made in any case, fewer of components that were found before. Then it ends
# when two in turn gain little, or when as many have brought nothing for the images held out, one in HELD_OUT.
LEAST_STEPS, LEAST_STEPS_ON, PATIENCE = 10, 2, 4
HELD_OUT = 10
# Contrasts are expected to scatter by so much of their mean, at first, and by no more at any time.
FIRST_SPREAD, LARGEST_SPREAD = 0.1, 0.5


@dataclass(frozen=True)
class ContrastPrior:
    """Contrasts of the images before they are seen: their mean m, and their standard deviation s as a share of it."""

    mean: float = 1.0
    spread: float = 0.0

    def fitted(self, total: float, squares: float, count: float) -> "ContrastPrior":
        """The prior that makes contrasts of these sums likeliest, which are in units of this one's mean."""
        mean = total / count
        variance = max(squares / count - mean**2, 0.0)
        return ContrastPrior(self.mean * mean, min(math.sqrt(variance) / mean, LARGEST_SPREAD))


@dataclass(frozen=True)
class PPCA:
    """Linear model of the densities of a data set at one box.

    Attributes:
        mean: mu [D, D, D].
        basis: U [k, D, D, D], orthogonal, largest first, scaled so that the latents have unit variance.
        latents: posterior means z [n, k], of the images that this process holds.
        covariance: posterior covariances S [n, k, k].
        log_likelihood: gain of the log likelihood over the mean density, per image.
        contrast: posterior mean a_i / m of the contrast of every image, None where all are taken to be the same.
    """

    mean: Float[Tensor, "d d d"]
    basis: Float[Tensor, "k d d d"]
    latents: Float[Tensor, "n k"]
    covariance: Float[Tensor, "n k k"]
    log_likelihood: float
    contrast: Float[Tensor, " n"] | None = None
    contrast_prior: ContrastPrior = ContrastPrior()

    @property
    def dimension(self) -> int:
        return len(self.basis)

    def volumes(self, latents: Float[Tensor, "m k"]) -> Float[Tensor, "m d d d"]:
        """mu + z U."""
        return self.mean + torch.tensordot(latents, self.basis, dims=1)

    def informative(self, processes: Processes = ALONE) -> "PPCA":
        """The components that the data say something about (at least one)."""
        information = 1.0 - processes.mean(self.covariance.diagonal(dim1=1, dim2=2))
        kept = (information > LEAST_INFORMATION).nonzero()[:, 0]
        kept = kept if len(kept) else torch.zeros(1, dtype=torch.long, device=self.basis.device)
        return replace(
            self,
            basis=self.basis[kept],
            latents=self.latents[:, kept],
            covariance=self.covariance[:, kept][:, :, kept],
        )


def fit_ppca(
    images: Images,
    mean: Float[Tensor, "d d d"],
    mask: Float[Tensor, "d d d"],
    dimension: int,
    iterations: int,
    seed: int,
    report: Callable[[int, PPCA], None] | None = None,
    tolerance: float = 0.0,
    *,
    contrast: bool = False,
    moving: Float[Tensor, "d d d"] | None = None,
    start: Float[Tensor, "p d d d"] | None = None,
) -> PPCA:
    """EM from smooth random components. ``mean``, ``mask`` and the images share one (low) box.

    ``contrast``: whether the images' contrasts may differ. ``moving``: soft mask of what components may change of what
    ``mask`` holds (None: all of it). ``start``: components of an earlier fit, in place of the first random ones.

    Stops after ``iterations`` steps, when two in turn gain less than the share ``tolerance`` of the log likelihood, or
    when a tenth of the images, which is held out, gains nothing any more: from there on noise is fitted. What that
    tenth likes best is kept, and makes one more step with all images.
    """
    region = mask if moving is None else mask * moving
    basis, least_steps = _random_basis(mean * mask, region, dimension, seed), LEAST_STEPS
    if start is not None:
        basis[: len(start)], least_steps = start.to(region) * region, LEAST_STEPS_ON
    state = PPCA(
        mean=mean * mask,
        basis=basis,
        latents=torch.zeros(len(images), dimension, device=images.device),
        covariance=torch.eye(dimension, device=images.device).expand(len(images), -1, -1),
        log_likelihood=0.0,
        contrast=torch.ones(len(images), device=images.device) if contrast else None,
        contrast_prior=ContrastPrior(spread=FIRST_SPREAD if contrast else 0.0),
    )
    part = images.part
    held_out = (part.images[part.start : part.stop] % HELD_OUT == HELD_OUT - 1).to(images.device)
    variance: Tensor | None = None
    step, gain = 1.0, math.inf
    best, best_at, most = (state, variance), 0, -math.inf
    for iteration in range(iterations):
        before, last_gain = state.log_likelihood, gain
        state, equations, unseen = _expectation_held_out(images, state, held_out)
        if unseen > most:
            best, best_at, most = (state, variance), iteration, unseen
        gain = state.log_likelihood - before
        step = min(STEP_GROWTH * step, LARGEST_STEP) if gain > 0 else 1.0
        state, variance = maximisation(state, equations, mask, variance, step, part.processes, moving)
        if report is not None:
            report(iteration, state)
        little = max(abs(gain), abs(last_gain)) < tolerance * abs(state.log_likelihood)
        if iteration + 1 >= least_steps and (little or iteration - best_at >= PATIENCE):
            break
    state, equations = expectation(images, best[0])
    state, _ = maximisation(state, equations, mask, best[1], processes=part.processes, moving=moving)
    return expectation(images, state, accumulate=False)[0]


def _expectation_held_out(
    images: Images, ppca: PPCA, held_out: Bool[Tensor, " n"]
) -> tuple[PPCA, NormalEquations | None, float]:
    """Posteriors of all, equations and log likelihood without the images held out, and the log likelihood of these."""
    seen, equations = expectation(images, ppca, rows=(~held_out).nonzero()[:, 0])
    both, _ = expectation(images, seen, accumulate=False, rows=held_out.nonzero()[:, 0])
    return replace(both, log_likelihood=seen.log_likelihood), equations, both.log_likelihood


def expectation(
    images: Images,
    ppca: PPCA,
    accumulate: bool = True,
    rows: Int[Tensor, " m"] | None = None,
    fixed: bool = False,
) -> tuple[PPCA, NormalEquations | None]:
    """Posterior of every latent here, and the equations for the next mean and basis from all processes.

    ``fixed`` keeps the posteriors that ``ppca`` has and only gathers equations, from ``rows`` alone.
    """
    plane = SlicePlane.of_box(images.box, images.device)
    deviation = images.slice_deviation(plane)
    k = ppca.dimension
    equations = NormalEquations(images.box, k + 1, images.device) if accumulate else None
    table = None if fixed else _slice_table(ppca)
    latents, covariances = ppca.latents.clone(), ppca.covariance.clone()
    prior = ppca.contrast_prior
    contrast = latents.new_ones(len(latents)) if ppca.contrast is None else ppca.contrast.clone()
    gain, contrast_variance = 0.0, 0.0
    every = torch.arange(len(images), device=images.device) if rows is None else rows
    for batch, some in images.batches(every.split(images.batch)):
        where = interpolate_slices(plane, some.views())
        whitened = plane.take(some.coefficients) / deviation
        ctf = plane.take(some.ctf) / deviation
        if table is None:
            weights, spread = _known(contrast[batch], latents[batch], covariances[batch])
        else:
            weights, spread, more = _posterior(_inner_products(table, where, ctf, whitened), prior)
            contrast[batch], latents[batch], covariances[batch] = weights[:, 0], weights[:, 1:], spread[:, 1:, 1:]
            contrast_variance += float(spread[:, 0, 0].sum())
            gain += more
        if equations is not None:
            equations.add(whitened, ctf, weights, weights[:, :, None] * weights[:, None] + spread, where)
    processes = images.part.processes
    if equations is not None:
        equations.finish(processes)
    gain, count = processes.add_numbers(gain, len(every))
    found = replace(ppca, latents=latents, covariance=covariances, log_likelihood=gain / max(count, 1))
    if ppca.contrast is not None:
        found = replace(found, contrast=contrast)
        if equations is not None and table is not None:
            here = contrast[every]
            squares = float(here.square().sum()) + contrast_variance
            sums = processes.add_numbers(float(here.sum()), squares, len(every))
            found = replace(found, contrast_prior=prior.fitted(*sums))
    return found, equations


def linear_volumes(
    images: Images,
    ppca: PPCA,
    mask: Float[Tensor, "d d d"],
    prior: Float[Tensor, "q s"],
    rows: Int[Tensor, " m"] | None = None,
    moving: Float[Tensor, "d d d"] | None = None,
) -> PPCA:
    """Mean and basis at the box of ``images`` for latents that stay as they are: one regularised regression.

    ``prior`` is the prior precision per shell on the padded grid; ``rows`` the images that take part (None: all);
    ``moving`` what components may change (None: all that ``mask`` holds).
    """
    _, equations = expectation(images, ppca, rows=rows, fixed=True)
    assert equations is not None
    coefficients, _ = equations.solve(prior)
    del equations
    # One at a time: at a large box a transform takes several times the memory of its volume.
    volumes = torch.stack([volume_from_fourier(some, images.box) for some in coefficients]) * mask
    basis = volumes[1:] if moving is None else volumes[1:] * moving
    return replace(ppca, mean=volumes[0], basis=basis)


def _inner_products(table: Tensor, where: SliceInterpolation, ctf: Tensor, whitened: Tensor) -> Tensor:
    """Gram matrices [b, k + 2, k + 2] of C P mu, C P U_1 .. U_k and Y, as real numbers, real parts before imaginary.

    ``table`` has a column to spare in both halves, which takes the images.
    """
    rows = read_rows(table, where)
    b, m, channels = rows.shape
    vectors = rows.view(b, m, 2, channels // 2)
    vectors *= ctf[..., None, None]
    vectors[..., 0, -1] = whitened.real
    vectors[..., 1, -1] = whitened.imag * where.conjugate
    flat = vectors.view(b, 2 * m, -1)
    return flat.transpose(1, 2) @ flat


def _posterior(products: Float[Tensor, "b g g"], prior: ContrastPrior) -> tuple[Tensor, Tensor, float]:
    """Mean and covariance of w = (a / m, z), and the summed log-likelihood gain, from whitened inner products.

    Whitened noise has unit variance per complex coefficient, so half of it per real part: hence the factor 2. The gain
    is over the mean density at a contrast of 1.
    """
    m = prior.mean
    # With contrasts that differ, the mean is one component more, of weight (a - m) / (m s).
    first = 0 if prior.spread > 0 else 1
    basis = slice(first, -1)
    scale = products.new_ones(products.shape[1] - 1)
    scale[0] = m * prior.spread
    scale = scale[first:]
    right = 2 * (products[:, basis, -1] - m * products[:, basis, 0]) * scale
    system = 2 * products[:, basis, basis] * scale * scale[:, None] + torch.eye(len(scale), device=products.device)
    factor, _ = torch.linalg.cholesky_ex(system)
    covariance = torch.cholesky_inverse(factor)
    found = (covariance @ right[..., None])[..., 0]
    gain = 0.5 * (right * found).sum() - factor.diagonal(dim1=1, dim2=2).log().sum()
    gain = gain + (2 * (m - 1) * products[:, 0, -1] - (m**2 - 1) * products[:, 0, 0]).sum()
    if prior.spread == 0:
        return *_known(torch.ones_like(found[:, 0]), found, covariance), float(gain)
    unit = scale / m
    unit[1:] = 1
    weights = found * unit
    weights[:, 0] += 1
    return weights, covariance * unit * unit[:, None], float(gain)


def _known(contrast: Tensor, latents: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of w = (a / m, z) for contrasts that are known."""
    weights = torch.cat([contrast[:, None], latents], dim=1)
    return weights, torch.nn.functional.pad(covariance, (1, 0, 1, 0))


def maximisation(
    state: PPCA,
    equations: NormalEquations | None,
    mask: Tensor,
    variance: Tensor | None,
    step: float = 1.0,
    processes: Processes = ALONE,
    moving: Float[Tensor, "d d d"] | None = None,
) -> tuple[PPCA, Tensor]:
    """M-step: the next mean and basis inside ``mask``, in canonical form, and their posterior variance [k + 1, shells].

    ``variance`` is that of the step before, None on the first. A ``step`` above 1 goes further in the same direction.
    ``moving`` is where components may be, of ``mask`` (None: everywhere).
    """
    assert equations is not None
    box = mask.shape[-1]
    volumes = torch.cat([state.mean[None], state.basis])
    power = shell_power(volumes)
    if variance is not None:
        power = power + variance
    coefficients, uncertainty = equations.solve(component_precision(power, mask, moving))
    # The mask keeps its share of the uncertainty that white noise would leave in the whole box.
    variance = uncertainty / PADDING**3 * _shares(len(power), mask, moving)
    found = volume_from_fourier(coefficients, box) * mask
    if moving is not None:
        found[1:] *= moving
    volumes = torch.lerp(volumes, found, step)
    return canonical(replace(state, mean=volumes[0], basis=volumes[1:]), processes), variance


def component_precision(
    power: Float[Tensor, "q s"], mask: Tensor, moving: Float[Tensor, "d d d"] | None = None
) -> Float[Tensor, "q s"]:
    """Prior precision on the padded grid for volumes of this power per shell: the mean, then the components.

    A voxel of the padded grid holds 1 / PADDING^3 of the data of an unpadded one, and a volume that is zero outside a
    mask has only that share of independent coefficients: both shrink the prior that one padded voxel should carry.
    """
    share = _shares(len(power), mask, moving)
    return share / (PADDING**3 * power.clamp_min(torch.finfo(power.dtype).tiny * 1e6))


def _shares(count: int, mask: Tensor, moving: Tensor | None) -> Float[Tensor, "q 1"]:
    """The share of the box that the mean has, and that each component has."""
    shares = mask.mean().repeat(count, 1)
    if moving is not None:
        shares[1:] = (mask * moving).mean()
    return shares


def canonical(state: PPCA, processes: Processes = ALONE) -> PPCA:
    """Latents centred and of unit variance, basis orthogonal and ordered; the densities stay the same."""
    centre = processes.mean(state.latents)
    latents = state.latents - centre
    (count,) = processes.add_numbers(len(latents))
    second = processes.add(latents.T @ latents) / count + processes.mean(state.covariance)
    factor = torch.linalg.cholesky(second + 1e-8 * torch.eye(len(second), device=second.device))
    mean = state.mean + torch.tensordot(centre, state.basis, dims=1)
    flat = factor.T @ state.basis.flatten(1)
    left, _, _ = torch.linalg.svd(flat @ flat.T)
    turn = left.T @ torch.linalg.inv(factor)
    return replace(
        state,
        mean=mean,
        basis=(left.T @ flat).reshape(state.basis.shape),
        latents=latents @ turn.T,
        covariance=turn @ state.covariance @ turn.T,
    )


def _slice_table(ppca: PPCA) -> Tensor:
    """Mean, basis and a column of zeros as rows: real parts, then imaginary parts [voxels, 2 (k + 2)]."""
    volumes = torch.cat([ppca.mean[None], ppca.basis])
    coefficients = fourier_from_volume(volumes).flatten(1)
    table = coefficients.real.new_zeros(coefficients.shape[1], 2, len(volumes) + 1)
    table[:, 0, :-1], table[:, 1, :-1] = coefficients.real.T, coefficients.imag.T
    return table.flatten(1)


def _random_basis(mean: Tensor, mask: Tensor, dimension: int, seed: int) -> Tensor:
    """Smooth random components inside the mask, each a twentieth of the mean's size."""
    box = mean.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(dimension, box, box, box, generator=generator).to(mean.device)
    smooth = torch.exp(-((half_volume_radii(box, PADDING, mean.device) / (box / 8)) ** 2))
    basis = volume_from_fourier(fourier_from_volume(noise) * smooth, box) * mask
    norms = basis.flatten(1).norm(dim=1)[:, None, None, None]
    return basis / norms * mean.norm() / math.sqrt(400)
