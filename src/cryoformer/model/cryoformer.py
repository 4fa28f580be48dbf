r"""CryoFormer: density sigma(x; i) at points x of an image's molecule (paper figure 2, section 3).

    phi(x) = SpatialFeatures(x)            once per set of points
    F_D(i) = DeformationEncoder(input i)   once per image; the input is a latent, or the image itself
    R, t   = OrientationEncoder(image i)   only if poses are not to stay as they were given
    Q(i)   = QueryDecoder(F_D(i))          once per image
    sigma(x; i) = density_scale * head(phi(x), Q(i))

Points are [p, 3] in (x, y, z), as fractions of the box: 0.5 is the box centre (voxel D // 2), so a point at r Angstrom
from it is at r / (D a) + 0.5. The density lives in the molecule's own frame: projection and CTF are the matter of
:mod:`cryoformer.imaging`.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryoformer.model.decoder import QueryDecoder
from cryoformer.model.density_heads import ConcatenateHead, PointHead, TokenHead
from cryoformer.model.encoders import DeformationEncoder, LinearDeformation, OrientationEncoder
from cryoformer.model.model_config import ModelConfig
from cryoformer.model.registry import DECODERS, ENCODERS
from cryoformer.model.sparse_encoding import EncodingMatrix
from cryoformer.model.spatial_attention import Method
from cryoformer.model.spatial_features import SpatialFeatures

DensityHead = PointHead | TokenHead | ConcatenateHead | nn.Module


class CryoFormer(nn.Module):
    """The whole network. ``box`` is the number of voxels along an edge (D) of the full-size reconstruction."""

    density_scale: Tensor

    def __init__(self, config: ModelConfig, box: int) -> None:
        super().__init__()
        self.config, self.box = config, box
        self.spatial = SpatialFeatures(config, box)
        self.encoder = _encoder(config, box)
        self.orientation = _orientation(config, box) if config.orientation == "encoder" else None
        start = self.spatial.mean_and_spread()
        self.decoder: QueryDecoder | None = None
        if config.decoder == "transformer":
            self.decoder = QueryDecoder(
                config.queries,
                config.channels,
                config.blocks,
                config.attention_heads,
                config.feed_forward_expansion,
                config.query_injection,
                config.cross_attention_values,
            )
        self.head = self._head(*start)
        self.register_buffer("density_scale", torch.ones(()))

    def _head(self, mean: Float[Tensor, " f"], spread: float) -> DensityHead:
        if self.config.decoder == "concatenate":
            return ConcatenateHead(self.config, mean, spread)
        if self.config.decoder != "transformer":
            own: nn.Module = DECODERS[self.config.decoder](self.config, mean, spread)
            return own
        return (PointHead if self.config.spatial_attention == "point" else TokenHead)(self.config, mean, spread)

    def prepare_points(self, points: Float[Tensor, "p 3"]) -> EncodingMatrix | Tensor:
        """For points that serve many batches: what to pass in their place, a hundred times faster on a CPU."""
        return self.spatial.prepare(points)

    def spatial_features(self, points: EncodingMatrix | Float[Tensor, "p 3"]) -> Float[Tensor, "p f"]:
        """phi(x), in which F_S(x) is linear: what :meth:`density` and :meth:`attention` take. Once per batch."""
        features: Tensor = self.spatial(points)
        return features

    def deformation(self, inputs: Float[Tensor, "b ..."]) -> Float[Tensor, "b n c"]:
        """F_D [b, N, C] of latents [b, k], or of images [b, D, D] (``encoder="mlp"``)."""
        features: Tensor = self.encoder(inputs)
        return features

    def queries(self, deformation: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """Deformation-aware structure queries Q [b, N, C] of F_D (F_D itself without the transformer)."""
        if self.decoder is None:
            return deformation
        queries: Tensor = self.decoder(deformation)
        return queries

    def density(self, features: Float[Tensor, "p f"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p"]:
        """sigma [b, p] in units of ``density_scale``'s choosing (:meth:`set_density_scale`)."""
        density: Tensor = self.head(features, queries)
        return density * self.density_scale

    def attention(self, features: Float[Tensor, "p f"], queries: Float[Tensor, "b n c"]) -> Float[Tensor, "b p n"]:
        """3D attention maps (paper figure 8): the weight of structure query n at a point; sums to 1 over n.

        Raises ValueError for a model whose decoder does not attend over space (:attr:`attends`).
        """
        if not isinstance(self.head, PointHead | TokenHead):
            raise ValueError(f"a model with decoder = {self.config.decoder!r} has no attention over space")
        return self.head.attention(features, queries)

    @property
    def attends(self) -> bool:
        """Whether the decoder attends to queries over real space."""
        return self.config.decoder == "transformer" and self.config.domain == "real"

    def forward(
        self, points: EncodingMatrix | Float[Tensor, "p 3"], inputs: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b p"]:
        """sigma [b, p] at points (or their encoding matrix) for a batch of latents or images."""
        return self.density(self.spatial_features(points), self.queries(self.deformation(inputs)))

    def set_density_scale(self, scale: float) -> None:
        """The density that an output of one stands for: about the standard deviation of the density expected."""
        self.density_scale.fill_(scale)

    def set_attention_method(self, method: Method) -> None:
        """How the point head computes: "auto", or "plain" where derivatives beyond the first are wanted."""
        if isinstance(self.head, PointHead):
            self.head.method = method

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """ "tables" (hash tables, which want a larger step and no weight decay) and "networks" (all else)."""
        tables = [p for name, p in self.named_parameters() if name.endswith("encoding.table")]
        others = [p for name, p in self.named_parameters() if not name.endswith("encoding.table")]
        return {"tables": tables, "networks": others}


def _orientation(config: ModelConfig, box: int) -> OrientationEncoder:
    pixels = (config.image_box or box) ** 2
    return OrientationEncoder(pixels, config.encoder_layers, config.encoder_width, config.encoder_residual)


def _encoder(config: ModelConfig, box: int) -> nn.Module:
    if config.encoder in ENCODERS:
        own: nn.Module = ENCODERS[config.encoder](config)
        return own
    if config.encoder == "linear":
        return LinearDeformation(config.latent_dimension, config.queries, config.channels)
    images = config.encoder == "mlp"
    return DeformationEncoder(
        (config.image_box or box) ** 2 if images else config.latent_dimension,
        config.queries,
        config.channels,
        config.encoder_layers,
        config.encoder_width,
        config.encoder_residual,
        images=images,
    )
