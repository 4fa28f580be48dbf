r"""Where no part is, what the network decodes stays: r(x; z) = g * [u w (sigma_T(.; z) - mean)].

u is a soft mask of what the parts never reach, so that the network without parts, u = 1, is the first of the
models that held-out images choose from. In the states that images are read against, r spans few dimensions.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.latent_posterior import STATES_AT_ONCE, low_rank
from cryoformer.imaging.grids import resample_volume

# Of the variance of r over the states, and of its largest deviation.
LOST_VARIANCE = 1e-3
LEAST_SHARE = 1e-3
EDGE_VOXELS = 1.0
VOLUMES_AT_ONCE = 8
# Of what varies, the share that is gained or lost in all. Motion only shifts density: 0.03 to 0.05 where domains swing,
# 0.52 where two domains come and go.
MOST_GAINED = 0.2


@dataclass(frozen=True)
class KeptDensity:
    """r of the states at one box: weights times basis.

    Attributes:
        mean: what the network adds on average; it is part of the still density.
    """

    weights: Float[Tensor, "s r"]
    basis: Float[Tensor, "r d d d"]
    mean: Float[Tensor, "d d d"]

    @property
    def region(self) -> Bool[Tensor, "d d d"]:
        """Where it is not zero, nearly."""
        largest = self.basis.abs().amax(dim=0)
        return (largest > LEAST_SHARE * largest.max()).cpu()

    @property
    def variance(self) -> float:
        """Over the states, summed over voxels; weights are orthonormal."""
        return float(self.basis.square().sum()) / len(self.weights)

    @cached_property
    def comes_and_goes(self) -> bool:
        """Whether there is more or less of it, rather than motion."""
        basis = self.basis.flatten(1)
        # Some states at a time: all of them at the full box are more than the memory may hold.
        varied = sum(float((some @ basis).abs().sum()) for some in self.weights.split(VOLUMES_AT_ONCE))
        return float((self.weights @ basis.sum(dim=1)).abs().sum()) > MOST_GAINED * varied


def share_gained(deviations: Float[Tensor, "s p"]) -> float:
    """What densities gain or lose in all, as a share of what varies: 0 for motion, 1 where density comes and goes."""
    return float(deviations.sum(dim=1).abs().sum() / deviations.abs().sum().clamp_min(1e-30))


@torch.no_grad()
def kept_density(
    network: ConformationModel, window: Float[Tensor, "d d d"], box: int, support: Float[Tensor, "s k"]
) -> KeptDensity | None:
    """What a network decodes within a window in these states; None where that is nowhere."""
    model = network.within(window, network.static)
    points = model.points(box)
    if not len(points.voxels):
        return None
    decoded = torch.cat([model.decode(points, some) for some in support.split(STATES_AT_ONCE)])
    mean = decoded.mean(dim=0)
    weights, basis = low_rank(decoded - mean, LOST_VARIANCE)
    volumes = model.added(points, torch.cat([basis, mean[None]]) * points.volume_ratio)
    return KeptDensity(weights, volumes[:-1], volumes[-1])


def window_outside(window: Float[Tensor, "d d d"], reached: Bool[Tensor, "e e e"]) -> Float[Tensor, "d d d"]:
    """What is left of a window where parts never are; ``reached``, where they are, may be of another box."""
    soft = torch.from_numpy(gaussian_filter(reached.float().numpy(), EDGE_VOXELS))
    return window * (1 - resample_volume(soft, window.shape[-1])).clamp(0, 1).to(window)
