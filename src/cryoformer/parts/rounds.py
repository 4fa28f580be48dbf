r"""Parts from images: states, motions and densities in turn, from coarse to full resolution.

A round reads the posterior of every image over the states, takes a Gauss-Newton step of the motions and solves for the
densities of the parts, then for the still one: expectation maximisation, but for the local filter of the densities.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.latent_posterior import fit_prior
from cryoformer.images.fourier_images import Images
from cryoformer.images.linear_motion import LinearMotion
from cryoformer.imaging.grids import enlarge_volume, grid_points, resample_volume, sample_volume
from cryoformer.imaging.slices import SlicePlane
from cryoformer.linear.consensus import Backprojection, wiener_backprojection
from cryoformer.parts.density import PartDensities, swept
from cryoformer.parts.kept_density import kept_density
from cryoformer.parts.motion import PartMotions, PartPlaces
from cryoformer.parts.posterior import StatePosterior, part_log_likelihoods, state_posterior
from cryoformer.parts.update import improved, update_parts, update_still

# States of an image that its densities are made with: two while they change, four for those that stay.
DRAWS, LAST_DRAWS = 2, 4
PRIOR_IMAGES = 1000


@dataclass(frozen=True)
class PartModel:
    """Parts as far as they are known.

    Attributes:
        masks: of the parts at the full box, each in its own frame.
        occupancy: of the molecule, at the full box.
        support: latents of the states.
        window: where the network's density is kept beside the parts, at the full box; None for nowhere.
    """

    motions: PartMotions
    masks: Float[Tensor, "m d d d"]
    occupancy: Float[Tensor, "d d d"]
    support: Float[Tensor, "s k"]
    window: Float[Tensor, "d d d"] | None = None


class PartRounds:
    """Rounds at one box. ``rows``: the images that are learnt from; ``network``: of which the model may keep some."""

    def __init__(
        self,
        images: Images,
        model: PartModel,
        rows: Int[Tensor, " r"],
        seed: int,
        network: ConformationModel | None = None,
    ) -> None:
        self.images, self.model, self.rows, self.seed = images, model, rows, seed
        self.kept = None
        if network is not None and model.window is not None:
            self.kept = kept_density(network, model.window, images.box, model.support)
        self.cleared = images
        box, self.pixel_size = images.box, images.pixel_size_angstrom
        self.masks = torch.zeros(len(model.masks), box, box, box)
        for number, mask in enumerate(model.masks):
            self.masks[number] = resample_volume(mask, box)
        self.occupancy = resample_volume(model.occupancy, box)
        self.found: list[Backprojection] = []
        self._left: tuple[Tensor, Images, Images] | None = None

    @property
    def motions(self) -> PartMotions:
        return self.model.motions

    def begin(self, draws: Int[Tensor, "n c"], coarse: PartDensities | None = None) -> None:
        """Densities for these states of the images, from nothing or from those of a coarser box."""
        self.clear(draws)
        if coarse is None:
            self.densities = self._apart()
            self.update(draws, motions=False)
            self.update_still(draws)
        else:
            parts = torch.stack([enlarge_volume(part, self.images.box) for part in coarse.parts])
            self.densities = PartDensities(enlarge_volume(coarse.still, self.images.box), parts, self.pixel_size)
        self.update(draws, motions=False)
        self.update_still(draws)

    def _apart(self) -> PartDensities:
        """The mean density outside the masks, and nothing of the parts yet."""
        box, grid = self.images.box, grid_points(self.images.box, 1.0)
        places = zip(self.masks, self.motions.pivots / self.pixel_size, strict=True)
        inside = torch.stack([sample_volume(mask, grid - pivot).view(box, box, box) for mask, pivot in places])
        whole = wiener_backprojection(self.cleared, order=self.rows).local(self.pixel_size)
        still = whole * self.occupancy * (1 - inside.sum(dim=0)).clamp(0, 1)
        return PartDensities(still, torch.zeros_like(self.masks), self.pixel_size)

    def clear(self, known: Int[Tensor, "n c"] | StatePosterior) -> None:
        """Take what the network is expected to add off the images that densities are made from.

        ``known``: of the images' states, draws or posteriors.
        """
        if self.kept is None:
            return
        weights = self.kept.weights
        expected = weights[known].mean(dim=1) if isinstance(known, Tensor) else known.probabilities @ weights
        # The images cleared before, and what is left of them, are done with: another copy of all images is much.
        self.cleared, self._left = self.images, None
        self.cleared = self.images.minus_motion(LinearMotion(self.kept.basis, expected))

    def residuals(self, images: Images) -> Images:
        """The images without their still density, kept as long as that is the same: reading and updating share them."""
        still = self.densities.still
        if self._left is None or self._left[0] is not still or self._left[1] is not images:
            self._left = None
            self._left = still, images, images.minus(still)
        return self._left[2]

    def read(self) -> StatePosterior:
        """The posterior of every image; the weights of the states are fitted to the rows."""
        residuals = self.residuals(self.images)
        likelihood = self._log_likelihoods(residuals)
        return state_posterior(likelihood, unexplained(residuals), fit_prior(likelihood[self.rows]))

    def evidence(self, rows: Int[Tensor, " h"]) -> Float[Tensor, " h"]:
        """log p(Y_i) of some images, with weights of the states that are fitted to a sample of those that were learnt
        from."""
        learnt = self.rows[:: max(1, len(self.rows) // PRIOR_IMAGES)]
        residuals = self.images.take(torch.cat([rows, learnt])).minus(self.densities.still)
        likelihood = self._log_likelihoods(residuals)
        weights = fit_prior(likelihood[len(rows) :])
        return state_posterior(likelihood, unexplained(residuals), weights).evidence[: len(rows)]

    def _log_likelihoods(self, residuals: Images) -> Float[Tensor, "n s"]:
        region = swept(self.masks, self.pixel_size, self.motions, self.model.support)
        return part_log_likelihoods(residuals, self.densities, self.motions, self.model.support, region, self.kept)

    def update(self, draws: Int[Tensor, "n c"], *, motions: bool = True, places: PartPlaces | None = None) -> None:
        """Parts, and their motions; ``places``: what draws are of, if not of the states."""
        if not len(self.motions):
            return
        residuals = self.residuals(self.cleared)
        places = self.motions.at(self.model.support) if places is None else places
        found = update_parts(self.images, residuals, self.rows, self.densities, places, draws, motions=motions)
        if found.evidence is not None:
            moved = improved(self.motions, found.evidence, self.model.support)
            self.model = replace(self.model, motions=moved)
        self.found = found.found
        parts = [part.local(self.pixel_size) * mask for part, mask in zip(self.found, self.masks, strict=True)]
        self.densities = replace(self.densities, parts=torch.stack(parts))

    def update_still(self, draws: Int[Tensor, "n c"], places: PartPlaces | None = None) -> None:
        """What stays."""
        places = self.motions.at(self.model.support) if places is None else places
        # The density that they lack is about to change.
        self._left = None
        still = update_still(self.cleared, self.rows, self.densities, places, draws)
        self.densities = replace(self.densities, still=still.local(self.pixel_size) * self.occupancy)

    def round(self, number: int) -> StatePosterior:
        """Posterior, parts and motions, still density."""
        posterior = self.read()
        draws = posterior.draws(DRAWS, self.seed + number)
        self.clear(posterior)
        self.update(draws)
        self.update_still(draws)
        return posterior


@torch.no_grad()
def unexplained(residuals: Images) -> Float[Tensor, " n"]:
    """log p(Y_i) where nothing more is predicted, up to the constant of the noise."""
    plane = SlicePlane.of_box(residuals.box, residuals.device)
    deviation = residuals.slice_deviation(plane)
    return torch.cat(
        [
            -(plane.take(some.coefficients) / deviation).abs().square().sum(dim=1)
            for _, some in residuals.batches(residuals.every())
        ]
    )
