"""What training starts from: the points to decode, what is known of their density, and latents where there are any."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.factory import new_model, new_network
from cryoformer.images.fourier_images import Images
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.imaging.grids import resample_volume
from cryoformer.imaging.slices import shell_power
from cryoformer.linear.consensus import Consensus
from cryoformer.linear.linear_stage import LinearStage
from cryoformer.linear.occupancy import fitted_occupancy
from cryoformer.linear.regions import EVERYWHERE, Regions
from cryoformer.model.fourier import FourierCryoFormer
from cryoformer.training.train_config import TrainConfig, resolve_stages

# Without a subspace nothing is known of how much density varies: as much as this share of its spread, say.
VARYING_SHARE = 0.3


@dataclass(frozen=True)
class Start:
    """Volumes are [z, y, x] at the images' box.

    Attributes:
        occupancy: soft mask of what can hold density.
        window: soft mask of what the network decodes.
        deviation: standard deviation of the density that the network is to give.
        power: its power per shell 0 .. D / 2 - 1, for a network in the Fourier domain; None for others.
        latents, covariance: of every image; None where the network reads the images themselves.
        posterior: whether the latents are posterior means, of that covariance.
        contrast: of every image, where it is known.
        off_focus: what moves outside of the focus, to be taken off the images.
    """

    occupancy: Float[Tensor, "d d d"]
    window: Float[Tensor, "d d d"]
    deviation: float
    power: Float[Tensor, " s"] | None
    latents: Float[Tensor, "n k"] | None
    covariance: Float[Tensor, "n k k"] | None
    posterior: bool
    contrast: Float[Tensor, " n"] | None = None
    off_focus: LinearMotion | None = None

    def model(self, consensus: Float[Tensor, "d d d"], pixel_size: float, config: TrainConfig) -> ConformationModel:
        """An untrained network over the points to decode; the consensus is its static density (``config.base``)."""
        box = consensus.shape[-1]
        settings = config.model
        if settings.encoder == "mlp":
            image_box = settings.image_box or resolve_stages(config, box)[0].box
            settings = replace(settings, image_box=min(image_box, box))
        elif self.latents is not None:
            settings = replace(settings, latent_dimension=self.latents.shape[1])
        torch.manual_seed(config.seed)
        network = new_network(settings, box).to(consensus.device)
        if isinstance(network, FourierCryoFormer):
            assert self.power is not None
            network.set_amplitude(torch.cat([self.power, self.power[-1:]]).sqrt())
        else:
            network.set_density_scale(self.deviation)
        static = consensus * self.occupancy if config.base else torch.zeros_like(consensus)
        return new_model(network, static, self.window, pixel_size)


def ppca_start(
    linear: LinearStage, consensus: Float[Tensor, "d d d"], config: TrainConfig, regions: Regions = EVERYWHERE
) -> Start:
    """Flexible (or occupied) points, and the latents of the linear subspace unless the network reads images."""
    if config.base:
        deviation, power = float(linear.density_scale), _power(linear.basis, config)
    else:
        deviation, power = _whole(consensus, linear.occupancy, config)
    reads_images = config.model.encoder == "mlp"
    return Start(
        occupancy=linear.occupancy,
        window=linear.flexible if config.decode == "flexible" else regions.varying(linear.occupancy),
        deviation=deviation,
        power=power,
        latents=None if reads_images else linear.latents,
        covariance=None if reads_images else linear.covariance,
        posterior=not reads_images,
        contrast=linear.contrast,
        off_focus=linear.off_focus,
    )


def unaided_start(images: Images, consensus: Consensus, config: TrainConfig, regions: Regions = EVERYWHERE) -> Start:
    """All occupied points; latents, where there are any, drawn from their prior N(0, I)."""
    occupancy = regions.solvent
    if occupancy is None:
        low = images.crop(min(config.subspace.box, images.box))
        occupancy = resample_volume(fitted_occupancy(low, consensus), images.box)
    deviation, power = _whole(consensus.volume, occupancy, config)
    share = VARYING_SHARE if config.base else 1.0
    power = None if power is None else share**2 * power
    latents = covariance = None
    if config.model.encoder != "mlp":
        count, k = images.part.total, config.subspace.dimension
        generator = torch.Generator().manual_seed(config.seed + 4)
        latents = torch.randn(count, k, generator=generator).to(images.device)
        covariance = torch.eye(k, device=images.device).repeat(count, 1, 1)
    window = regions.varying(occupancy)
    return Start(occupancy, window, share * deviation, power, latents, covariance, posterior=False)


def _whole(consensus: Tensor, occupancy: Tensor, config: TrainConfig) -> tuple[float, Tensor | None]:
    """Deviation and power of all density: without a static density the network has to give it, not only what varies."""
    return float(consensus[occupancy > 0.5].std()), _power((consensus * occupancy)[None], config)


def _power(volumes: Float[Tensor, "q d d d"], config: TrainConfig) -> Float[Tensor, " s"] | None:
    """Summed power per shell, where it is needed."""
    return shell_power(volumes).sum(dim=0) if config.model.domain == "fourier" else None
