r"""The network of ResMFN (Shekarforoush et al., NeurIPS 2022): one density, band by band, of frozen sine filters.

    z_0 = sin(w_0 x + p_0),   z_i = (W_i z_(i-1)) sin(w_i x + p_i),   y_i = y_(i-1) + ReLU(a_i z_i + b_i)

A product of sines holds the sums and differences of their frequencies. With |w_0| <= B_0 along every axis, and

    w_i = B_(i-1) (l u + m r),   u uniform in [-1, 1]^3,   r one of the 13 directions to the neighbours of a voxel,

z_i reaches up to B_i = (1 + l + m) B_(i-1): mostly frequencies that z_(i-1) does not have, so that what was found in a
narrow band stays when a wider one is added. In the paper l = 0.3, m = 2 and the last band is that of the box.
Frequencies w are drawn and stay; phases p, W, a and b are learnt. In the first band we draw w_1 evenly, up to
B_1 - B_0 along every axis: drawn as the others, it would lack the lowest frequencies, and even a few blobs at known
poses would not be fitted.
"""

import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEAR, FAR = 0.3, 2.0
"""l and m of the paper; of another growth of the bands they keep their ratio."""


class SineFilter(nn.Module):
    """sin(w x + p) with frequencies w, in radians per box, that stay as they are."""

    frequencies: Tensor

    def __init__(self, frequencies: Float[Tensor, "c 3"]) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.phases = nn.Parameter(math.pi * (2 * torch.rand(len(frequencies)) - 1))

    def forward(self, points: Float[Tensor, "p 3"]) -> Float[Tensor, "p c"]:
        """At points in units of the box."""
        return torch.addmm(self.phases, points, self.frequencies.T).sin_()


class ResidualMFN(nn.Module):
    """A density at points, as far as each of its bands.

    Args:
        bands: B_1 .. B_L in cycles per box along an axis, each the same factor above the one before.
        width: of every layer.
    """

    def __init__(self, bands: tuple[float, ...], width: int) -> None:
        super().__init__()
        growth = bands[1] / bands[0] if len(bands) > 1 else 1 + NEAR + FAR
        before = [band / growth for band in bands]
        near, far = ((growth - 1) * share / (NEAR + FAR) for share in (NEAR, FAR))
        self.first = SineFilter(2 * math.pi * before[0] * _uniform(width, 3))
        directions = _half_of_neighbours()
        even = (growth - 1) * before[0] * _uniform(width, 3)
        others = (
            band * (near * _uniform(width, 3) + far * directions[torch.randint(13, (width,))]) for band in before[1:]
        )
        self.filters = nn.ModuleList(SineFilter(2 * math.pi * frequencies) for frequencies in (even, *others))
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in bands)
        self.outputs = nn.ModuleList(nn.Linear(width, 1) for _ in bands)
        for layer in (*self.layers, *self.outputs):
            assert isinstance(layer, nn.Linear)
            nn.init.uniform_(layer.weight, -math.sqrt(6 / width), math.sqrt(6 / width))

    def forward(self, points: Float[Tensor, "p 3"], band: int) -> Float[Tensor, " p"]:
        """y_i of the band with this number, from 1, at points in units of the box from its centre."""
        hidden, density = self.first(points), points.new_zeros(len(points))
        for number in range(band):
            hidden = self.layers[number](hidden) * self.filters[number](points)
            density = density + torch.relu(self.outputs[number](hidden)[:, 0])
        return density


def _uniform(*shape: int) -> Tensor:
    return 2 * torch.rand(*shape) - 1


def _half_of_neighbours() -> Float[Tensor, "13 3"]:
    """Directions to a voxel's 26 neighbours, one of every two that are opposite: sin(-w x) is no other filter."""
    cube = [place for place in itertools.product((-1, 0, 1), repeat=3) if place > (0, 0, 0)]
    return torch.tensor(cube, dtype=torch.float32)
