r"""Volumes at latent points by kernel regression on the images: weighted Wiener back-projection of those nearest.

For a point z*, images are ranked by the posterior density of their own latent there, log N(z*; z_i, S_i): near images
come first, and among these the ones that are sure of it. A kernel takes the first n / 2^j of them with equal weight. So
narrow kernels see little of other states and much noise, wide ones the reverse. Which is best is asked of the data, in
every band of spatial frequency and from place to place: the error of kernel h,

    e_h(x) = G * [ (V_h^a - V_0^b)^2 + (V_h^b - V_0^a)^2 ],    a, b: the two halves of the images, h = 0: the narrowest,

compares each half with the least biased estimate of the images it has not seen. The kernel of least error is taken, and
the result filtered by the local agreement of its halves. Sorting into nested kernels and the cross-validation follow
RECOVAR (Gilles & Singer, PNAS 2025), which ranks by Mahalanobis distance and uses one more level of local windows.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.images.fourier_images import Images
from cryoformer.imaging.slices import volume_from_fourier
from cryoformer.linear.consensus import backprojection_equations
from cryoformer.linear.local_filter import band_shares, local_wiener, window_mean, window_voxels
from cryoformer.linear.normal_equations import NormalEquations

LEAST_IMAGES = 40  # per half: with fewer, slices leave gaps at all but the lowest frequencies
WIDEST = 4  # the widest kernel but one takes a quarter of the images, because all of them are summed up only once
# A voxel that few slices touch is held back by this share of the mean precision of its shell.
FLOOR = 0.05


class KernelRegression:
    """Volumes of the images' box at points of the space of their latents.

    ``images`` have their noise spectrum; ``latents`` [n, k] and ``covariance`` [n, k, k] are their posteriors.
    """

    def __init__(self, images: Images, latents: Float[Tensor, "n k"], covariance: Float[Tensor, "n k k"]) -> None:
        self.images, self.latents = images, latents
        self._precision = torch.linalg.inv(covariance)
        self._log_determinant = torch.logdet(covariance)
        self._halves = [images.half(number) for number in (0, 1)]
        self._whole = [backprojection_equations(images, rows) for rows in self._halves]
        self.sizes = kernel_sizes(min(len(rows) for rows in self._halves))

    def volume(self, point: Float[Tensor, " k"]) -> Float[Tensor, "d d d"]:
        """The density [z, y, x] at a latent point."""
        density = self.log_density(point)
        halves = torch.stack([self._nested(rows, density[rows], all_) for rows, all_ in self._halves_and_sums()])
        chosen = choose_kernels(halves[0], halves[1], self.images.pixel_size_angstrom)
        return local_wiener(chosen[0], chosen[1], self.images.pixel_size_angstrom)

    def log_density(self, point: Float[Tensor, " k"]) -> Float[Tensor, " n"]:
        """Log posterior density of every image's latent at a point, up to a constant."""
        away = self.latents - point
        return -0.5 * torch.einsum("nj,njk,nk->n", away, self._precision, away) - 0.5 * self._log_determinant

    def _halves_and_sums(self) -> list[tuple[Tensor, NormalEquations]]:
        return list(zip(self._halves, self._whole, strict=True))

    def _nested(
        self, rows: Int[Tensor, " m"], density: Float[Tensor, " m"], everything: NormalEquations
    ) -> Float[Tensor, "h d d d"]:
        """Unfiltered densities of one half by every kernel, narrowest first, the last of all images."""
        order = rows[density.argsort(descending=True)]
        maps, sum_so_far, begin = [], None, 0
        for size in self.sizes:
            ring = backprojection_equations(self.images, order[begin:size].sort().values)
            sum_so_far = ring if sum_so_far is None else sum_so_far.merge(ring)
            maps.append(self._solve(sum_so_far))
            begin = size
        return torch.stack([*maps, self._solve(everything)])

    def _solve(self, equations: NormalEquations) -> Float[Tensor, "d d d"]:
        coefficients, _ = equations.solve(FLOOR * equations.precision())
        return volume_from_fourier(coefficients, self.images.box)[0]


def kernel_sizes(half: int) -> list[int]:
    """Images of a half that each kernel takes, narrowest first; the kernel of all images is not among them."""
    sizes, size = [], half // WIDEST
    while size >= LEAST_IMAGES:
        sizes.append(size)
        size //= 2
    return sizes[::-1] or [min(half, LEAST_IMAGES)]


def choose_kernels(
    first: Float[Tensor, "h d d d"], second: Float[Tensor, "h d d d"], pixel_size_angstrom: float
) -> Float[Tensor, "2 d d d"]:
    """Two half maps, in every band and place by the kernel that predicts the other half best."""
    box = first.shape[-1]
    chosen = first.new_zeros(2, box, box, box)
    transforms = torch.fft.rfftn(torch.stack([first, second]), dim=(2, 3, 4))
    sigma = window_voxels(pixel_size_angstrom)
    for share in band_shares(box, first.device):
        one, two = torch.fft.irfftn(transforms * share, s=(box,) * 3, dim=(2, 3, 4))
        errors = torch.stack(
            [window_mean((a - two[0]).square() + (b - one[0]).square(), sigma) for a, b in zip(one, two, strict=True)]
        )
        best = errors.argmin(dim=0)[None]
        chosen += torch.stack([one.gather(0, best)[0], two.gather(0, best)[0]])
    return chosen
