r"""The network in the Fourier domain (paper 5.4 and table 1): coefficients at frequencies, not density at points.

    F(k; i) = A(|k|) (head_re(phi(k), Q(i)) + i head_im(phi(k), Q(i)))        for k of one half space
    F(k; i) = F(-k; i)*                                                       for the other

so the density is real by construction. k = (kx, ky, kz) in cycles per box; the hash grid sees k / D + 1/2. A, a number
per shell, stands for the size of the coefficients expected there: they span several orders of magnitude, of which a
network of outputs near one should know nothing. Real and imaginary part share attention and hidden layer.

An image needs its central slice alone, which no other image shares, so features are gathered for every image: there
is no matrix to keep, as real space has for points that stay.
"""

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.density_heads import PointHead, output_layer
from cryoformer.model.model_config import ModelConfig

# Frequencies that many images share are decoded so many numbers (images x frequencies x hidden) at a time.
CHUNK_ELEMENTS = 2**24


class CoefficientHead(PointHead):
    """:class:`PointHead` with two outputs: real and imaginary part."""

    def __init__(self, config: ModelConfig, mean: Float[Tensor, " f"], spread: float) -> None:
        super().__init__(config, mean, spread)
        real, imaginary = (output_layer(config.density_hidden)[0] for _ in range(2))
        self.w2 = nn.Parameter(torch.stack([real.detach(), imaginary.detach()], dim=1))
        self.b2 = nn.Parameter(torch.zeros(2))

    def coefficients(
        self, features: Float[Tensor, "#b p f"], queries: Float[Tensor, "b n c"]
    ) -> Float[Tensor, "b p 2"]:
        """Real and imaginary parts; an image has frequencies of its own, or all share one set (first axis 1)."""
        # torch.matmul, for three dimensions: softmax(phi k^T) v, then the two outputs.
        weights = torch.softmax(features @ self.keys(queries).mT, dim=-1)
        residual = self.residual(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        return torch.relu(weights @ self.value(queries) + residual) @ self.w2 + self.b2


class FourierCryoFormer(CryoFormer):
    """:class:`~cryoformer.model.cryoformer.CryoFormer` over frequencies: :meth:`coefficients` in place of a density."""

    head: CoefficientHead
    amplitude: Tensor

    def __init__(self, config: ModelConfig, box: int) -> None:
        super().__init__(config, box)
        self.register_buffer("amplitude", torch.ones(box // 2 + 1))

    def _head(self, mean: Float[Tensor, " f"], spread: float) -> CoefficientHead:
        return CoefficientHead(self.config, mean, spread)

    def set_amplitude(self, amplitude: Float[Tensor, " s"]) -> None:
        """A per shell 0 .. D // 2: about the root mean square of the coefficients expected."""
        self.amplitude.copy_(amplitude)

    def coefficients(
        self, frequencies: Float[Tensor, "#b p 3"], deformation_inputs: Float[Tensor, "b ..."]
    ) -> Complex[Tensor, "b p"]:
        """F [b, p] at frequencies in cycles per box, an image's own or shared by all, for latents or images."""
        queries = self.queries(self.deformation(deformation_inputs))
        lower = in_lower_half(frequencies)
        upper = torch.where(lower[..., None], -frequencies, frequencies)
        size = self._amplitude_at(upper)
        if len(frequencies) == 1 and not torch.is_grad_enabled():
            chunk = max(1, CHUNK_ELEMENTS // (len(queries) * (self.config.queries + self.config.density_hidden)))
            parts = torch.cat([self._parts(some, queries) for some in upper.split(chunk, dim=1)], dim=1)
        else:
            parts = self._parts(upper, queries)
        # The mean of a real density is real.
        sign = torch.where(lower, -1.0, 1.0) * (upper != 0).any(dim=-1)
        return torch.complex(parts[..., 0] * size, parts[..., 1] * size * sign)

    def _parts(self, upper: Float[Tensor, "#b p 3"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p 2"]:
        features = self.spatial_features(upper.flatten(0, 1) / self.box + 0.5)
        return self.head.coefficients(features.unflatten(0, upper.shape[:2]), queries) * self.density_scale

    def _amplitude_at(self, frequencies: Float[Tensor, "#b p 3"]) -> Float[Tensor, "#b p"]:
        """A(|k|), linear between shells."""
        radius = frequencies.norm(dim=-1).clamp(max=len(self.amplitude) - 1)
        low = radius.long().clamp(max=len(self.amplitude) - 2)
        return torch.lerp(self.amplitude[low], self.amplitude[low + 1], radius - low)


def in_lower_half(frequencies: Float[Tensor, "*b p 3"]) -> Bool[Tensor, "*b p"]:
    """Whether a frequency (kx, ky, kz) is one of those whose coefficient is the conjugate of that at -k."""
    x, y, z = frequencies.unbind(dim=-1)
    return (x < 0) | ((x == 0) & ((y < 0) | ((y == 0) & (z < 0))))
