r"""Densities of places, made to fit the images: decoded ones are not true enough to tell where a particle is.

Deconvolution asks more of densities than any map does. Where the density decoded for one place is a little truer than
for its neighbours, all images near it are drawn there: a tenth of a unit of log likelihood is enough to make wells that
do not exist (docs/free_energy.md). So the densities along a path become a curve of low degree, and those of a plane a
surface,

    sigma(x; s) = b(x) + w(x) sum_k P_k(s) V_k(x),        P_k: (products of) Legendre polynomials,
                                                          w: the window of what moves,

whose coefficients V_k are solved from the images (:mod:`cryoformer.linear.normal_equations`) with the posterior moments
of P_k(s), and posteriors are read again: EM, begun at the decoded densities. It is done for each half of the images, so
an image is read under a curve that has not seen it, and what the two halves differ by says how sure all of it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.decode.latent_posterior import low_rank_log_likelihoods
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.slices import SlicePlane, interpolate_slices, shell_power, slice_table, volume_from_fourier
from cryoformer.linear.normal_equations import NormalEquations
from cryoformer.linear.ppca import component_precision
from cryoformer.states.deconvolution import PlaceLikelihood, fit_energy
from cryoformer.states.path import DensityPlaces

ROUNDS = 6
# Of the free energy while densities are not known yet.
SMOOTH = 1e-5
BLOCK = 5000


@dataclass(frozen=True)
class CurveReading:
    """What images say of places, under the curves of the two halves of the images.

    Attributes:
        log_likelihoods: under each curve, up to a constant per image.
        halves: of every image, 0 or 1.
        sizes: length or area that each place stands for, by what the two curves' changes have in common.
        shape: of the path or the plane.
    """

    log_likelihoods: Float[np.ndarray, "2 n m"]
    halves: Int[np.ndarray, " n"]
    sizes: Float[np.ndarray, " m"]
    shape: tuple[int, ...]

    def unseen(self) -> PlaceLikelihood:
        """Every image under the curve of the other half."""
        rows = np.arange(len(self.halves))
        return PlaceLikelihood.from_logarithms(self.log_likelihoods[1 - self.halves, rows], self.sizes, self.shape)

    def under(self, half: int) -> PlaceLikelihood:
        """All images under one curve."""
        return PlaceLikelihood.from_logarithms(self.log_likelihoods[half], self.sizes, self.shape)


def read_along_curve(
    images: Images,
    places: DensityPlaces,
    window: Float[Tensor, "d d d"],
    progress: Callable[[float], None] = lambda _: None,
) -> CurveReading:
    """Curves fitted to both halves of the images, begun at decoded densities, and all images read under both.

    Args:
        images: at the box of the densities, with their noise spectrum and contrast.
        places: with the curve that fits what is decoded there.
        window: soft, of what moves.
    """
    basis, begin = places.basis, places.coefficients * window
    power = shell_power(begin)
    # Decoded densities have no mean left, but the truth may.
    power[0] = power[1:].amax(dim=0)
    prior = component_precision(power, window)
    residuals = images.minus(places.base)
    rows = [images.half(half) for half in (0, 1)]
    curves = [begin, begin]
    for number in range(ROUNDS):
        read = [_log_likelihoods(residuals, curve, basis, some) for curve, some in zip(curves, rows, strict=True)]
        curves = [
            _solved(residuals, some, _posterior(values, places.shape), basis, prior) * window
            for some, values in zip(rows, read, strict=True)
        ]
        progress((number + 1) / (ROUNDS + 2))
    everything = torch.arange(len(images), device=images.device)
    found = torch.stack([_log_likelihoods(residuals, curve, basis, everything) for curve in curves])
    return CurveReading(
        log_likelihoods=found.double().numpy(),
        halves=images.halves.numpy(),
        sizes=_sizes(curves, basis, places.shape),
        shape=places.shape,
    )


def _log_likelihoods(
    residuals: Images, curve: Float[Tensor, "q d d d"], basis: Float[Tensor, "m q"], rows: Tensor
) -> Float[Tensor, "r m"]:
    table = slice_table(lambda some: curve[some], len(curve), residuals.box)
    return torch.cat([low_rank_log_likelihoods(residuals.take(some), basis, table) for some in rows.split(BLOCK)])


def _posterior(log_likelihood: Float[Tensor, "n m"], shape: tuple[int, ...]) -> Float[Tensor, "n m"]:
    """Over the places, with their populations as far as they are known."""
    images = PlaceLikelihood.from_logarithms(log_likelihood.double().numpy(), np.ones(log_likelihood.shape[1]), shape)
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


def _sizes(
    curves: list[Float[Tensor, "q d d d"]], basis: Float[Tensor, "m q"], shape: tuple[int, ...]
) -> Float[np.ndarray, " m"]:
    """Length or area of each place: the root of the determinant of the density's metric, g_ij = <d_i sigma, d_j sigma>.

    Of the changes of the two curves, what they share counts. Places at an end of an axis stand for half as much.
    """
    grid = basis.double().numpy().reshape(*shape, -1)
    slopes = np.stack([np.gradient(grid, axis=axis).reshape(len(basis), -1) for axis in range(len(shape))])
    one, other = (curve.flatten(1).double().numpy() for curve in curves)

    def metric(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found = np.einsum("imp,pq,jmq->mij", slopes, left @ right.T, slopes)
        return np.asarray((found + found.swapaxes(1, 2)) / 2)

    own = np.linalg.det((metric(one, one) + metric(other, other)) / 2)
    # Where the curves change against one another, which noise makes them do, they share nothing.
    shared = np.linalg.eigvalsh(metric(one, other)).clip(min=0).prod(axis=1)
    ends = [np.where(np.isin(np.arange(count), (0, count - 1)), 0.5, 1.0) for count in shape]
    size = np.sqrt(np.maximum(shared, 0.01 ** len(shape) * own))
    return np.asarray(size * reduce(np.multiply.outer, ends).ravel())
