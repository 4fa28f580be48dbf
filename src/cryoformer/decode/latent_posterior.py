r"""Stage D: latents by the decoder's own likelihood.

The linear subspace gives every particle a Gaussian posterior under a linear model and a Gaussian prior. Once the
network knows the densities sigma(.; z), a particle's latent is read again against a set of states z_m taken from
the latents of the particles themselves:

    log p(Y_i | m) = -sum_k w_k |R_i - C_i P_i w sigma_T(.; z_m)|^2 / s^2
    p(m | Y_i)  ~  pi_m p(Y_i | m),      pi by EM (the non-parametric maximum-likelihood prior; Kiefer & Wolfowitz 1956,
                                         for latents as in Zhong, Su & Fan, J. R. Stat. Soc. B 2022)

and mean and covariance are those of z_m under p(m | Y_i). Nothing assumes that motions are linear or Gaussian.

The densities of a few hundred states span far fewer dimensions: sigma_m = sum_r c_mr B_r, so with A_i = C_i P_i B

    log p(Y_i | m) = 2 c_m . Re A_i^H R_i - c_m . (A_i^H A_i) c_m,

and an image costs r slices, not as many as there are states.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.communication import ALONE, Processes
from cryoformer.decode.density_model import ConformationModel, DecodedPoints
from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.cut import Cut
from cryoformer.imaging.grids import crop_volume
from cryoformer.imaging.slices import SlicePlane, extract_slices, interpolate_slices, slice_table

# Latents are read at this box at most: beyond it they gain little and cost much (docs/theory.md).
LATENT_BOX = 48
BATCH = 128
STATES_AT_ONCE = 32
# Of the densities' variance over the states: under a tenth of a unit of log likelihood, where the state is worth ten.
LOST_VARIANCE = 1e-4
PRIOR_ITERATIONS = 20
# Likelihoods of this many images are held at a time; the prior is fitted to as many, spread evenly.
BLOCK = 20_000


@torch.no_grad()
def refine_latents(
    model: ConformationModel,
    images: Images,
    latents: Float[Tensor, "m k"],
    states: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k k"]]:
    """Posterior mean and covariance of every particle's latent under the decoder, at the (low) box of ``images``.

    Where processes share the images, each reads those of its own, and all get the latents of all.

    ``latents`` are those that the states are taken from: of these particles, or of others.
    """
    support = choose_states(latents, states, seed)
    residuals = images.minus(crop_volume(model.static, images.box))
    part, blocks = images.part, torch.arange(len(images), device=images.device).split(BLOCK)
    processes, all_at_once = part.processes, part.total <= BLOCK
    sample = part.here(torch.linspace(0, part.total - 1, min(BLOCK, part.total), device=images.device).round().long())
    passes = len(blocks) + (not all_at_once)

    def likelihoods(rows: Tensor, number: int) -> Tensor:
        def report(done: float) -> None:
            if progress is not None:
                progress((number + done) / passes)

        return state_log_likelihoods(model, residuals.take(rows), support, report)

    log_likelihood = likelihoods(sample, 0)
    weights = fit_prior(log_likelihood, processes=processes)
    means, covariances = [], []
    for number, rows in enumerate(blocks, start=1):
        if not all_at_once:
            log_likelihood = likelihoods(rows, number)
        mean, covariance = posterior_moments(posterior_over_states(log_likelihood, weights), support)
        means.append(mean)
        covariances.append(covariance)
    return processes.gather(torch.cat(means)), processes.gather(torch.cat(covariances))


def uncertainty_about(
    point: Float[Tensor, "n k"], mean: Float[Tensor, "n k"], covariance: Float[Tensor, "n k k"]
) -> Float[Tensor, "n k k"]:
    """E[(z - point)(z - point)^T] under a posterior of this mean and covariance: how far off a point estimate is."""
    off = mean - point
    return covariance + off[:, :, None] * off[:, None]


def posterior_moments(
    responsibilities: Float[Tensor, "b m"], support: Float[Tensor, "m k"]
) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k k"]]:
    """Mean and covariance of latents under probabilities of the states.

    States are samples of a continuum: no posterior is narrower than the gaps between them.
    """
    # About their centre: of states that hardly differ, the difference of squares would be what rounding leaves.
    centre = support.mean(dim=0)
    away = support - centre
    mean = responsibilities @ away
    second = torch.einsum("nm,mj,mk->njk", responsibilities, away, away)
    covariance = second - mean[:, :, None] * mean[:, None] + torch.diag(_gap(support) ** 2)
    covariance.diagonal(dim1=1, dim2=2).clamp_(min=0.0)
    return mean + centre, covariance


def gaussian_draws(
    mean: Float[Tensor, "*m n k"], covariance: Float[Tensor, "*m n k k"], count: int, seed: int
) -> Float[Tensor, "*m e k"]:
    """So many draws from every image's posterior, one image after the other: e = n count."""
    values, vectors = torch.linalg.eigh(covariance)
    roots = vectors * values.clamp_min(0).sqrt()[..., None, :]
    noise = torch.randn(*mean.shape[:-1], count, mean.shape[-1], generator=torch.Generator().manual_seed(seed))
    return (mean[..., None, :] + noise.to(mean) @ roots.transpose(-1, -2)).flatten(-3, -2)


def choose_states(latents: Float[Tensor, "n k"], states: int, seed: int) -> Float[Tensor, "m k"]:
    """Latents of random particles: dense where particles are many."""
    order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed)).to(latents.device)
    return latents[order[: min(states, len(latents))]]


def state_log_likelihoods(
    model: ConformationModel,
    residuals: FourierImages,
    support: Float[Tensor, "m k"],
    progress: Callable[[float], None] | None = None,
) -> Float[Tensor, "n m"]:
    """log p(Y_i | z_m), up to a constant per image, from what the static density leaves of the images."""
    points = model.points(residuals.box)
    weights, basis = low_rank(_densities(model, points, support))
    return low_rank_log_likelihoods(residuals, weights, _slice_table(model, points, basis), progress)


def low_rank_log_likelihoods(
    residuals: FourierImages,
    weights: Float[Tensor, "m r"],
    table: Float[Tensor, "v r2"],
    progress: Callable[[float], None] | None = None,
    cut: Cut | None = None,
) -> Float[Tensor, "n m"]:
    """log p(Y_i | m) for densities that are sums, with these weights, of r volumes held as rows for slices.

    ``cut``: the cube that the volumes fill, where that is not the box.
    """
    rank = weights.shape[1]
    squares = (weights[:, :, None] * weights[:, None]).flatten(1)
    plane = SlicePlane.of_box(residuals.box, residuals.device)
    deviation = residuals.slice_deviation(plane)
    sliced = plane if cut is None else cut.plane(plane)
    result = torch.empty(len(residuals), len(weights), device=residuals.device)
    for rows in residuals.every(BATCH):
        whitened = plane.take(residuals.coefficients[rows]) / deviation
        ctf = plane.take(residuals.ctf[rows]) / deviation
        if cut is not None:
            whitened = cut.centred(whitened, plane, residuals.views(rows))
        where = interpolate_slices(sliced, residuals.views(rows))
        slices = extract_slices(table, where, rank) * ctf[..., None]
        # Each coefficient of the plane stands for a conjugate pair, and white complex noise of unit variance has log
        # density -|.|^2: as reals, 2 n numbers without any factor.
        a = torch.view_as_real(slices).transpose(1, 2).flatten(2)
        match = a @ torch.view_as_real(whitened).flatten(1)[:, :, None]
        gram = a @ a.transpose(1, 2)
        result[rows] = 2 * match[..., 0] @ weights.T - gram.flatten(1) @ squares.T
        if progress is not None:
            progress((int(rows[-1]) + 1) / len(residuals))
    return result


def low_rank(
    densities: Float[Tensor, "m p"], lost: float = LOST_VARIANCE
) -> tuple[Float[Tensor, "m r"], Float[Tensor, "r p"]]:
    """Weights and basis whose product is the densities, but for a share ``lost`` of their variance over the states."""
    values, vectors = torch.linalg.eigh((densities @ densities.T).double())
    variance = (densities - densities.mean(dim=0)).square().sum()
    rank = max(1, int((values.flip(0).cumsum(0) < values.sum() - lost * variance).sum()) + 1)
    weights = vectors[:, -rank:].to(densities)
    return weights, weights.T @ densities


def fit_prior(
    log_likelihood: Float[Tensor, "n m"], iterations: int = PRIOR_ITERATIONS, processes: Processes = ALONE
) -> Float[Tensor, " m"]:
    """Weights of the states, by EM over the images of all processes."""
    weights = torch.full_like(log_likelihood[0], 1.0 / log_likelihood.shape[1])
    for _ in range(iterations - 1):
        weights = processes.mean(posterior_over_states(log_likelihood, weights))
    return weights


def posterior_over_states(log_likelihood: Float[Tensor, "n m"], weights: Float[Tensor, " m"]) -> Float[Tensor, "n m"]:
    """p(m | Y_i)."""
    joint = torch.exp(log_likelihood - log_likelihood.amax(dim=1, keepdim=True)) * weights
    return joint / joint.sum(dim=1, keepdim=True)


def _densities(model: ConformationModel, points: DecodedPoints, support: Tensor) -> Float[Tensor, "m p"]:
    return torch.cat([model.decode(points, some) for some in support.split(STATES_AT_ONCE)])


def _slice_table(model: ConformationModel, points: DecodedPoints, basis: Float[Tensor, "r p"]) -> Float[Tensor, "v r2"]:
    """What the network adds, for each of the basis, as rows for :func:`extract_slices`."""
    return slice_table(lambda rows: model.added(points, basis[rows] * points.volume_ratio), len(basis), points.box)


def _gap(support: Float[Tensor, "m k"]) -> Float[Tensor, " k"]:
    """Typical distance of a state to its nearest neighbour, per coordinate."""
    distance = torch.cdist(support, support)
    distance.fill_diagonal_(torch.inf)
    nearest = distance.argmin(dim=1)
    return (support - support[nearest]).square().mean(dim=0).sqrt()
