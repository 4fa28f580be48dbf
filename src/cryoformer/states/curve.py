r"""Densities along a path, made to fit the images: decoded ones are not true enough to tell where a particle is.

Deconvolution asks more of densities than any map does. Where the density decoded for one place is a little truer than
for its neighbours, all images near it are drawn there: a tenth of a unit of log likelihood is enough to make wells that
do not exist (docs/free_energy.md). So the densities along the path become a curve of low degree,

    sigma(x; s) = b(x) + w(x) sum_k P_k(s) V_k(x),        P_k: Legendre polynomials, w: the window of what moves,

whose coefficients V_k are solved from the images (:mod:`cryoformer.linear.normal_equations`) with the posterior moments
of P_k(s), and posteriors are read again: EM, begun at the decoded densities. It is done for each half of the images, so
an image is read under a curve that has not seen it, and what the two halves differ by says how sure all of it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.decode.latent_posterior import low_rank_log_likelihoods
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.slices import SlicePlane, interpolate_slices, shell_power, slice_table, volume_from_fourier
from cryoformer.linear.normal_equations import NormalEquations
from cryoformer.linear.ppca import component_precision
from cryoformer.states.deconvolution import PathLikelihood, fit_energy

DEGREE = 6
ROUNDS = 6
# Of the free energy while densities are not known yet.
SMOOTH = 1e-5
BLOCK = 5000


@dataclass(frozen=True)
class CurveReading:
    """What images say of places along a path, under the curves of the two halves of the images.

    Attributes:
        log_likelihoods: under each curve, up to a constant per image.
        halves: of every image, 0 or 1.
        lengths: of the path that each place stands for, by what the two curves' changes have in common.
    """

    log_likelihoods: Float[np.ndarray, "2 n m"]
    halves: Int[np.ndarray, " n"]
    lengths: Float[np.ndarray, " m"]

    def unseen(self) -> PathLikelihood:
        """Every image under the curve of the other half."""
        rows = np.arange(len(self.halves))
        return PathLikelihood.from_logarithms(self.log_likelihoods[1 - self.halves, rows], self.lengths)

    def under(self, half: int) -> PathLikelihood:
        """All images under one curve."""
        return PathLikelihood.from_logarithms(self.log_likelihoods[half], self.lengths)


def read_along_curve(
    images: Images,
    volumes: Float[Tensor, "m d d d"],
    window: Float[Tensor, "d d d"],
    progress: Callable[[float], None] = lambda _: None,
) -> CurveReading:
    """Curves fitted to both halves of the images, begun at these densities, and all images read under both.

    Args:
        images: at the box of the volumes, with their noise spectrum and contrast.
        volumes: decoded at the places of the path.
        window: soft, of what moves.
    """
    base = volumes.mean(dim=0)
    basis = torch.from_numpy(np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, len(volumes)), DEGREE)).to(base)
    begin = (torch.linalg.pinv(basis) @ (volumes - base).flatten(1)).view(-1, *base.shape) * window
    power = shell_power(begin)
    # Decoded densities have no mean left, but the truth may.
    power[0] = power[1:].amax(dim=0)
    prior = component_precision(power, window)
    residuals = images.minus(base)
    rows = [images.half(half) for half in (0, 1)]
    curves = [begin, begin]
    for number in range(ROUNDS):
        read = [_log_likelihoods(residuals, curve, basis, some) for curve, some in zip(curves, rows, strict=True)]
        curves = [
            _solved(residuals, some, _posterior(values), basis, prior) * window
            for some, values in zip(rows, read, strict=True)
        ]
        progress((number + 1) / (ROUNDS + 2))
    everything = torch.arange(len(images), device=images.device)
    found = torch.stack([_log_likelihoods(residuals, curve, basis, everything) for curve in curves])
    return CurveReading(
        log_likelihoods=found.double().numpy(), halves=images.halves.numpy(), lengths=_lengths(curves, basis)
    )


def _log_likelihoods(
    residuals: Images, curve: Float[Tensor, "q d d d"], basis: Float[Tensor, "m q"], rows: Tensor
) -> Float[Tensor, "r m"]:
    table = slice_table(lambda some: curve[some], len(curve), residuals.box)
    return torch.cat([low_rank_log_likelihoods(residuals.take(some), basis, table) for some in rows.split(BLOCK)])


def _posterior(log_likelihood: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    """Over the places, with their populations as far as they are known."""
    images = PathLikelihood.from_logarithms(log_likelihood.double().numpy(), np.ones(log_likelihood.shape[1]))
    populations = images.populations(fit_energy(images, SMOOTH))
    return torch.softmax(log_likelihood + torch.from_numpy(np.log(populations)).float(), dim=1)


def _solved(
    residuals: Images,
    rows: Tensor,
    posterior: Float[Tensor, "r m"],
    basis: Float[Tensor, "m q"],
    prior: Float[Tensor, "q s"],
) -> Float[Tensor, "q d d d"]:
    """Coefficients of the curve by least squares, from these rows with their posteriors."""
    plane = SlicePlane.of_box(residuals.box, residuals.device)
    deviation = residuals.slice_deviation(plane)
    equations = NormalEquations(residuals.box, basis.shape[1], residuals.device)
    pairs = (basis[:, :, None] * basis[:, None]).flatten(1)
    for some in torch.arange(len(rows)).split(residuals.batch):
        batch = residuals.take(rows[some])
        data, ctf = plane.take(batch.coefficients) / deviation, plane.take(batch.ctf) / deviation
        second = (posterior[some] @ pairs).view(-1, basis.shape[1], basis.shape[1])
        equations.add(data, ctf, posterior[some] @ basis, second, interpolate_slices(plane, batch.views()))
    equations.finish()
    return volume_from_fourier(equations.solve(prior)[0], residuals.box)


def _lengths(curves: list[Float[Tensor, "q d d d"]], basis: Float[Tensor, "m q"]) -> Float[np.ndarray, " m"]:
    """Length of each place, half of the steps on its two sides, from what the steps of the two curves share."""
    steps = [(basis[1:] - basis[:-1]) @ curve.flatten(1) for curve in curves]
    shared = (steps[0] * steps[1]).sum(dim=1).double().numpy()
    own = sum((step**2).sum(dim=1).double().numpy() / 2 for step in steps)
    step = np.sqrt(np.maximum(shared, 0.01 * own))
    return np.concatenate([step[:1] / 2, (step[1:] + step[:-1]) / 2, step[-1:] / 2])
