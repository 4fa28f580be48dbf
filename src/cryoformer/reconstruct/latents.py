r"""Stage D: latents by the decoder's own likelihood.

The linear subspace gives every particle a Gaussian posterior under a linear model and a Gaussian prior. Once the
network knows the densities sigma(.; z), a particle's latent is read again against a set of states z_m taken from
the population itself:

    log p(Y_i | m) = -sum_k w_k |R_i - C_i P_i w sigma_T(.; z_m)|^2 / s^2
    p(m | Y_i)  ~  pi_m p(Y_i | m),      pi by EM (the non-parametric maximum-likelihood prior; Kiefer & Wolfowitz 1956,
                                         for latents as in Zhong, Su & Fan, J. R. Stat. Soc. B 2022)

and mean and covariance are those of z_m under p(m | Y_i). Nothing assumes that motions are linear or Gaussian.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices
from cryoformer.reconstruct.consensus import subtract_projections
from cryoformer.reconstruct.density_model import ConformationModel, DecodedPoints, crop_volume
from cryoformer.reconstruct.images import FourierImages

BATCH = 128
STATES_AT_ONCE = 32
PRIOR_ITERATIONS = 20


@torch.no_grad()
def refine_latents(
    model: ConformationModel,
    images: FourierImages,
    latents: Float[Tensor, "n k"],
    states: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k k"]]:
    """Posterior mean and covariance of every particle's latent under the decoder, at the (low) box of ``images``."""
    support = choose_states(latents, states, seed)
    log_likelihood = state_log_likelihoods(model, images, support, progress)
    responsibilities = posterior_over_states(log_likelihood)
    mean = responsibilities @ support
    second = torch.einsum("nm,mj,mk->njk", responsibilities, support, support)
    covariance = second - mean[:, :, None] * mean[:, None]
    # States are samples of a continuum: no posterior is narrower than the gaps between them.
    return mean, covariance + torch.diag(_gap(support) ** 2)


def choose_states(latents: Float[Tensor, "n k"], states: int, seed: int) -> Float[Tensor, "m k"]:
    """Latents of random particles: dense where the population is."""
    order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(seed)).to(latents.device)
    return latents[order[: min(states, len(latents))]]


def state_log_likelihoods(
    model: ConformationModel,
    images: FourierImages,
    support: Float[Tensor, "m k"],
    progress: Callable[[float], None] | None = None,
) -> Float[Tensor, "n m"]:
    """log p(Y_i | z_m), up to a constant per image."""
    points = model.points(images.box)
    plane = SlicePlane.of_box(images.box, images.device)
    deviation = plane.take(images.noise_deviation())
    residuals = plane.take(subtract_projections(images, crop_volume(model.base, images.box))) / deviation
    ctf = plane.take(images.ctf) / deviation
    result = torch.empty(len(images), len(support), device=images.device)
    for start in range(0, len(support), STATES_AT_ONCE):
        some = support[start : start + STATES_AT_ONCE]
        table = _density_table(model, points, some)
        for rows in torch.arange(len(images), device=images.device).split(BATCH):
            where = interpolate_slices(plane, images.rotations[rows])
            slices = extract_slices(table, where, len(some)) * ctf[rows, :, None]
            # |R - S|^2 = |R|^2 - 2 Re R S* + |S|^2; each coefficient of the plane stands for a conjugate pair, and
            # white complex noise of unit variance has log density -|.|^2.
            match = 2 * torch.einsum("bm,bmc->bc", residuals[rows].conj(), slices).real
            result[rows, start : start + len(some)] = match - slices.abs().square().sum(dim=1)
        if progress is not None:
            progress((start + len(some)) / len(support))
    return result


def posterior_over_states(
    log_likelihood: Float[Tensor, "n m"], iterations: int = PRIOR_ITERATIONS
) -> Float[Tensor, "n m"]:
    """p(m | Y_i) with the weights of the states fitted by EM."""
    likelihood = torch.exp(log_likelihood - log_likelihood.amax(dim=1, keepdim=True))
    weights = torch.full_like(likelihood[0], 1.0 / likelihood.shape[1])
    for _ in range(iterations):
        joint = likelihood * weights
        joint /= joint.sum(dim=1, keepdim=True)
        weights = joint.mean(dim=0)
    return joint


def _density_table(model: ConformationModel, points: DecodedPoints, support: Tensor) -> Tensor:
    """What the network adds to the base at each state, as rows for :func:`extract_slices`."""
    volumes = model.added(points, model.decode(points, support) * points.volume_ratio)
    coefficients = fourier_from_volume(volumes).flatten(1)
    return torch.cat([coefficients.real, coefficients.imag]).T.contiguous()


def _gap(support: Float[Tensor, "m k"]) -> Float[Tensor, " k"]:
    """Typical distance of a state to its nearest neighbour, per coordinate."""
    distance = torch.cdist(support, support)
    distance.fill_diagonal_(torch.inf)
    nearest = distance.argmin(dim=1)
    return (support - support[nearest]).square().mean(dim=0).sqrt()
