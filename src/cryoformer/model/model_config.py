"""Settings of the network, with the paper's sizes as defaults (paper sections 3.3-3.5, 5 and table 1)."""

from dataclasses import dataclass
from typing import Literal, get_args

from cryoformer.errors import InputError
from cryoformer.model.registry import DECODERS, ENCODERS

DomainName = Literal["real", "fourier"]
SpatialAttentionName = Literal["point", "token"]
OrientationName = Literal["given", "encoder"]
CrossAttentionValues = Literal["both", "deformation", "queries"]
SpatialEncodingName = Literal["hash", "positional"]

_CHOICES = {
    "domain": get_args(DomainName),
    "spatial_attention": get_args(SpatialAttentionName),
    "cross_attention_values": get_args(CrossAttentionValues),
    "spatial_encoding": get_args(SpatialEncodingName),
    "orientation": get_args(OrientationName),
}
ENCODER_NAMES = ("latent", "mlp", "linear")
DECODER_NAMES = ("transformer", "concatenate")
_LEAST = {
    "queries": 1,
    "channels": 1,
    "blocks": 0,
    "attention_heads": 1,
    "feed_forward_expansion": 1,
    "hash_levels": 1,
    "hash_features": 1,
    "hash_table_log2": 4,
    "base_resolution": 1,
    "spatial_hidden": 1,
    "density_hidden": 1,
    "encoder_layers": 1,
    "encoder_width": 1,
    "latent_dimension": 1,
    "positional_layers": 1,
    "positional_width": 1,
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of a :class:`~cryoformer.model.cryoformer.CryoFormer`; checked when made.

    Raises InputError, naming the setting, when a value cannot be used.
    """

    domain: DomainName = "real"  #: "fourier": complex coefficients at 3D frequencies, not density at points (table 1)

    # Structure queries and their decoder (paper 3.5)
    queries: int = 64  #: N, structure queries; also the number of tokens of F_D
    channels: int = 64  #: C, channels of a query
    blocks: int = 3  #: decoder blocks (self-attention, cross-attention to F_D, feed-forward)
    attention_heads: int = 1  #: of the decoder blocks; eq. 3 of the paper has one
    feed_forward_expansion: int = 2  #: hidden width of a block's feed-forward network, in units of C
    cross_attention_values: CrossAttentionValues = "both"  #: "queries" is the paper's Attention(Q, F_D, Q)
    query_injection: float = 3.0  #: F_D times this is added to the queries before the first block; 0 is the paper's
    #: "concatenate": no queries, F_S(x) beside a summary of F_D (table 1); or one of your own
    decoder: str = "transformer"

    # Implicit spatial feature volume (paper 3.3 and 5)
    spatial_encoding: SpatialEncodingName = "hash"  #: "positional": sines and a large MLP (table 1)
    hash_levels: int = 16
    hash_features: int = 2  #: per level
    hash_table_log2: int = 15  #: rows of a level's table, at most 2 to this power
    base_resolution: int = 16  #: cells along an edge of the coarsest level
    finest_resolution: int | None = None  #: of the finest level; None: the box, in the Fourier domain twice the box
    spatial_hidden: int = 16  #: hidden width of the tiny MLP behind the encoding
    positional_layers: int = 3  #: hidden layers of the MLP of the positional encoding
    positional_width: int = 256

    # Density of a point (paper 3.5, "Spatial Density Estimation")
    spatial_attention: SpatialAttentionName = "point"  #: "token": F_S(x) is N tokens, N x N attention per point
    density_hidden: int = 64  #: hidden width of the feed-forward network that ends in the density
    spatial_residual: bool = True  #: F_S(x) also enters that network directly, so the still part needs no query

    # Deformation encoder (paper 3.4)
    #: "latent": from the matched-filter latents; "mlp": from the image, pose-blind; "linear": F_D linear in the latent,
    #: which is what a trained "mlp" becomes (its principal components); or one of your own, of latents
    encoder: str = "latent"
    image_box: int | None = None  #: of the images that "mlp" reads; None: the box (a run: the box of its first stage)
    encoder_layers: int = 10
    encoder_width: int = 128
    encoder_residual: bool = True  #: identity skips around the hidden layers; False: the paper's plain MLP
    latent_dimension: int = 8

    #: "encoder": the paper's orientation encoder, which reads the pose of an image from it (needs "mlp" as the encoder)
    orientation: OrientationName = "given"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"model setting {name} = {getattr(self, name)!r}: expected one of {', '.join(choices)}"
                )
        self._check_registered("encoder", (*ENCODER_NAMES, *ENCODERS))
        self._check_registered("decoder", (*DECODER_NAMES, *DECODERS))
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"model setting {name} = {value!r}: expected a whole number of at least {least}")
        if self.hash_table_log2 > 24:
            raise InputError(f"model setting hash_table_log2 = {self.hash_table_log2}: expected at most 24")
        if self.channels % self.attention_heads:
            raise InputError(
                f"model setting attention_heads = {self.attention_heads}: must divide channels = {self.channels}"
            )
        if self.finest_resolution is not None and self.finest_resolution < self.base_resolution:
            raise InputError(
                f"model setting finest_resolution = {self.finest_resolution}: must not be below "
                f"base_resolution = {self.base_resolution}"
            )
        if self.domain == "fourier" and (self.decoder != "transformer" or self.spatial_attention != "point"):
            raise InputError(
                f"model setting domain = 'fourier' with decoder = {self.decoder!r}, spatial_attention = "
                f"{self.spatial_attention!r}: expected decoder = 'transformer' and spatial_attention = 'point'"
            )
        if self.orientation == "encoder" and (self.encoder != "mlp" or self.domain != "real"):
            raise InputError(
                f"model setting orientation = 'encoder' with encoder = {self.encoder!r}, domain = {self.domain!r}: "
                "expected encoder = 'mlp' and domain = 'real', as with --preset paper"
            )
        if self.image_box is not None and self.image_box < 2:
            raise InputError(f"model setting image_box = {self.image_box}: expected 2 or more pixels")
        if not 0.0 <= self.query_injection < float("inf"):
            raise InputError(f"model setting query_injection = {self.query_injection}: expected a number >= 0")

    def _check_registered(self, name: str, known: tuple[str, ...]) -> None:
        if (value := getattr(self, name)) not in known:
            raise InputError(
                f"model setting {name} = {value!r}: expected one of {', '.join(known)}; a file of your own that "
                f"registers it is read with cryoformer --plugin FILE.py ..."
            )
