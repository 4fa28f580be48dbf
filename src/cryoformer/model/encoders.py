r"""Image encoders (paper 3.4): image or latent -> deformation feature F_D; image -> orientation and shift.

Both are MLPs of 10 hidden layers of 128 ReLU units. A plain ReLU MLP of that depth maps all inputs to nearly one
output at the start (the cosine between the features of two inputs tends to 1 with depth), and its gradient says little
about the input. With the same layers and as many activations we therefore put identity skips around the hidden
layers,

    h_1 = W_1 x + b_1,   h_(l+1) = h_l + W_(l+1) ReLU(h_l) + b_(l+1),   y = W_out ReLU(h_L) + b_out,

which ``residual=False`` removes. What the deformation encoder reads is a choice of the configuration: the latent z of
the linear subspace, an image's matched-filter posterior mean, which knows pose and CTF (the default); or the image
itself, as in the paper, blind to both. The latter has no latents of few dimensions; once trained, the leading principal
components of its features take their place, and :class:`LinearDeformation` turns such a latent into F_D.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cryoformer.imaging.rotations import rotation_from_6d


class MLP(nn.Module):
    """``layers`` hidden layers of ``width`` ReLU units, He initialised, with identity skips unless told otherwise."""

    def __init__(self, inputs: int, outputs: int, layers: int = 10, width: int = 128, residual: bool = True) -> None:
        super().__init__()
        self.residual = residual
        self.first = nn.Linear(inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.last = nn.Linear(width, outputs)
        nn.init.normal_(self.first.weight, std=math.sqrt((1.0 if residual else 2.0) / inputs))
        # With skips the branches' variances add up: each gets its share, so that the sum stays near that of the input.
        share = 1.0 / layers if residual else 1.0
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=math.sqrt(2.0 * share / width))
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.last.weight, std=math.sqrt(1.0 / width))
        # Not zero: latents are centred, and at the origin a ReLU network without biases has no derivative.
        nn.init.uniform_(self.first.bias, -1.0, 1.0)
        nn.init.zeros_(self.last.bias)

    def last_hidden(self, inputs: Float[Tensor, "b inputs"]) -> Float[Tensor, "b width"]:
        """The last hidden layer [b, width], in which the outputs are linear."""
        hidden = self.first(inputs)
        for layer in self.hidden:
            step = layer(torch.relu(hidden))
            hidden = hidden + step if self.residual else step
        return torch.relu(hidden)

    def forward(self, inputs: Float[Tensor, "b inputs"]) -> Float[Tensor, "b outputs"]:
        """Outputs [b, outputs] of inputs [b, inputs]."""
        output: Tensor = self.last(self.last_hidden(inputs))
        return output


def standardise(images: Float[Tensor, "b pixels"]) -> Float[Tensor, "b pixels"]:
    """Each image with mean 0 and standard deviation 1, so that an encoder sees no difference of dose or gain."""
    return nn.functional.layer_norm(images, images.shape[-1:])


class DeformationEncoder(nn.Module):
    """F_D [b, N, C] from latents [b, k], or from images with ``images=True`` ([b, D, D], or flattened, or any fixed
    number of values an image: real and imaginary part of a half-plane, say).
    """

    def __init__(
        self,
        inputs: int,
        queries: int = 64,
        channels: int = 64,
        layers: int = 10,
        width: int = 128,
        residual: bool = True,
        images: bool = False,
    ) -> None:
        super().__init__()
        self.queries, self.channels, self.images = queries, channels, images
        self.network = MLP(inputs, queries * channels, layers, width, residual)

    def forward(self, inputs: Float[Tensor, "b ..."]) -> Float[Tensor, "b n c"]:
        """Deformation features, one token of ``channels`` for each structure query."""
        features: Tensor = self.network(self._flat(inputs))
        return features.view(-1, self.queries, self.channels)

    def last_hidden(self, inputs: Float[Tensor, "b ..."]) -> Float[Tensor, "b width"]:
        """The last hidden layer, in which F_D is linear."""
        return self.network.last_hidden(self._flat(inputs))

    def _flat(self, inputs: Float[Tensor, "b ..."]) -> Float[Tensor, "b values"]:
        flat = inputs.flatten(1)
        return standardise(flat) if self.images else flat


class LinearDeformation(nn.Module):
    """F_D [b, N, C] = mean + z W for latents z [b, k]."""

    def __init__(self, inputs: int, queries: int = 64, channels: int = 64) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(queries, channels))
        self.basis = nn.Parameter(torch.randn(inputs, queries, channels) / math.sqrt(inputs))

    def forward(self, latents: Float[Tensor, "b k"]) -> Float[Tensor, "b n c"]:
        """Deformation features, one token of C channels for each structure query."""
        return self.mean + torch.tensordot(latents, self.basis, dims=1)


class OrientationEncoder(nn.Module):
    """Pose from an image: a turn and a shift on top of a given pose (refinement) or of the identity.

    Starts at the given pose to within a thousandth or so: the last layer's weights begin small, its bias at the 6D form
    of the identity.
    ``shift_scale_angstrom`` is the shift that an output of one stands for; take some pixels.
    """

    def __init__(
        self,
        pixels: int,
        layers: int = 10,
        width: int = 128,
        residual: bool = True,
        shift_scale_angstrom: float = 1.0,
    ) -> None:
        super().__init__()
        self.shift_scale_angstrom = shift_scale_angstrom
        self.network = MLP(pixels, 8, layers, width, residual)
        with torch.no_grad():
            self.network.last.weight.mul_(1e-3)
            self.network.last.bias[:6] = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])

    def forward(
        self,
        images: Float[Tensor, "b ..."],
        rotations: Float[Tensor, "b 3 3"] | None = None,
        shifts_angstrom: Float[Tensor, "b 2"] | None = None,
    ) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 2"]]:
        """(R [b, 3, 3], shift [b, 2] in Angstrom, x and y) of images [b, D, D]; the turn acts in the image's frame."""
        pose = self.network(standardise(images.flatten(1)))
        turn, shift = rotation_from_6d(pose[:, :6]), pose[:, 6:] * self.shift_scale_angstrom
        return (
            turn if rotations is None else turn @ rotations,
            shift if shifts_angstrom is None else shift + shifts_angstrom,
        )
