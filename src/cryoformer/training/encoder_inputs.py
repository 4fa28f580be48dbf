r"""What the network reads about an image while it trains: a known latent, a latent that is learnt, or the image itself.

:class:`KnownLatents` are those of the linear subspace, or those read anew after a stage. :class:`FreeLatents` start at
random and are learnt with the network, as an auto-decoder's (Park et al., DeepSDF, CVPR 2019), by the posterior

    log p(z_i | Y_i) = log p(Y_i | z_i) - |z_i|^2 / 2 + const,

one gradient step whenever the image comes up. :class:`ImageInputs` are the paper's: the image, pose-blind.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.latent_posterior import choose_states, fit_prior, posterior_over_states, state_log_likelihoods
from cryoformer.images.fourier_images import Images
from cryoformer.images.shard import Shard
from cryoformer.imaging.fourier import fourier_to_images
from cryoformer.training.shared_states import draw_shared_states, most_images_per_state

# Free latents of held-out images are read at this box at most, over as many states.
HELD_OUT_BOX = 32
HELD_OUT_STATES = 64


class EncoderInputs(ABC):
    """One input of the network's encoder for every image, whatever processes share them."""

    known = False
    """Whether the inputs tell the conformation from the first step on. Only then does a held-out likelihood that falls
    mean that noise is being learnt; else it scatters about nothing for many epochs before anything is."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def inputs(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        """What the encoder reads for these images, which this process holds."""

    def inputs_of_all(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        """The same for images of any process; they ascend, and all processes ask for them."""
        return self.inputs(rows)

    @property
    def latents(self) -> Float[Tensor, "n k"] | None:
        """The latents, where inputs are latents."""
        return None

    @property
    def learnt(self) -> nn.Parameter | None:
        """What is learnt together with the network."""
        return None

    def penalty(self, rows: Int[Tensor, " b"]) -> Float[Tensor, ""] | None:
        """Minus the log prior of what is learnt for these images, per image; None where nothing is."""
        return None

    def images_per_state(self, rows: Int[Tensor, " t"], most: int) -> int:
        """How many neighbouring images may share a decoded density (:mod:`.shared_states`)."""
        return 1

    def shared_states(self, rows: Int[Tensor, " t"], size: int, generator: torch.Generator) -> Int[Tensor, " t"]:
        """Number of the state of each row, where about ``size`` images share one."""
        return torch.arange(len(rows), device=rows.device)

    # Most inputs have nothing to do here.
    def read_held_out(self, model: ConformationModel, residuals: Images, rows: Int[Tensor, " h"]) -> None:  # noqa: B027
        """Bring the inputs of images that take no part in training up to the network as it is now."""


class KnownLatents(EncoderInputs):
    """Latents that stay as they are, with the covariance of their posteriors."""

    known = True

    def __init__(self, latents: Float[Tensor, "n k"], covariance: Float[Tensor, "n k k"] | None = None) -> None:
        self._latents, self._covariance = latents, covariance

    def __len__(self) -> int:
        return len(self._latents)

    @property
    def latents(self) -> Float[Tensor, "n k"]:
        return self._latents

    def inputs(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b k"]:
        return self._latents[rows]

    def images_per_state(self, rows: Int[Tensor, " t"], most: int) -> int:
        return (
            1 if self._covariance is None else most_images_per_state(self._latents[rows], self._covariance[rows], most)
        )

    def shared_states(self, rows: Int[Tensor, " t"], size: int, generator: torch.Generator) -> Int[Tensor, " t"]:
        return draw_shared_states(self._latents[rows], size, generator).of_image


class FreeLatents(EncoderInputs):
    """Latents that are learnt, from ``start`` on; those of held-out images are read with the network as it is."""

    def __init__(self, start: Float[Tensor, "n k"], seed: int) -> None:
        self._table, self._seed = nn.Parameter(start.clone()), seed

    def __len__(self) -> int:
        return len(self._table)

    @property
    def latents(self) -> Float[Tensor, "n k"]:
        return self._table.detach()

    @property
    def learnt(self) -> nn.Parameter:
        return self._table

    def inputs(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b k"]:
        return self._table[rows]

    def penalty(self, rows: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        return 0.5 * self._table[rows].square().sum(dim=1).mean()

    @torch.no_grad()
    def read_held_out(self, model: ConformationModel, residuals: Images, rows: Int[Tensor, " h"]) -> None:
        """Posterior means over latents of training images."""
        known = torch.ones(len(self._table), dtype=torch.bool, device=self._table.device)
        known[rows] = False
        support = choose_states(self.latents[known], HELD_OUT_STATES, self._seed)
        some = residuals.take(rows)
        likelihood = state_log_likelihoods(model, some.crop(min(HELD_OUT_BOX, some.box)), support)
        self._table[rows] = posterior_over_states(likelihood, fit_prior(likelihood)) @ support


class ImageInputs(EncoderInputs):
    """Images in real space at the encoder's box: centred, but neither turned nor corrected for their CTF."""

    def __init__(self, images: Images, box: int) -> None:
        self._images = images.crop(box)

    def __len__(self) -> int:
        return self._images.part.total

    @property
    def part(self) -> Shard:
        """The images that this process holds."""
        return self._images.part

    def inputs(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b d d"]:
        return fourier_to_images(self._images.take(self.part.here(rows)).coefficients, self._images.box)

    def inputs_of_all(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b d d"]:
        here, box = self.part.here(rows), self._images.box
        # A process may hold none of them.
        coefficients = (
            self._images.take(here).coefficients
            if len(here)
            else torch.empty(0, box, box // 2 + 1, dtype=torch.complex64, device=rows.device)
        )
        return fourier_to_images(self.part.processes.gather(coefficients), box)
