r"""Null of motion: does PPCA find more in the particles than in images of which nothing moves?

Data with the poses, CTFs and noise spectrum of the particles are simulated from their consensus
(:mod:`.null_images`), several times, and stage B is fitted to the particles and to each of them in the same way. What
the data say about the latent dimension j is

    I_j = 1 - mean_i S_ijj,

one minus its posterior variance, the prior having variance 1: 0 for a dimension of which the images tell nothing.
Noise that images happen to share gives some information too. The largest I of every null is one draw of chance; a
dimension of the particles is real if it stands out from those draws (:mod:`.chance`). The largest, so that many
dimensions have no more chances than one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cryoformer.images.fourier_images import FourierImages
from cryoformer.linear.consensus import wiener_backprojection
from cryoformer.linear.ppca import LEAST_INFORMATION, PPCA, fit_ppca
from cryoformer.linear.ppca_settings import PPCASettings
from cryoformer.validate.chance import against_chance
from cryoformer.validate.null_images import null_images
from cryoformer.validate.outcome import Outcome

NAME = "null_of_motion"
LEAST_DEVIATION = 0.05
"""Of the nulls' largest information, at least. Where noise is at the edge of being fitted, most nulls have next to none
and one in ten has 0.1: five that agree on nothing do not exclude it (benchmarks/nulls.py)."""


@dataclass(frozen=True)
class MotionFound:
    """What stage B finds in a set of images; dimensions in the order of their information."""

    information: Float[np.ndarray, " k"]
    latent_variance: Float[np.ndarray, " k"]
    contrast: Float[np.ndarray, " k"]
    """Cosine between a component and the mean density: near 1, the component is a change of contrast, not of shape."""
    log_likelihood: float
    """Gain over the mean density, per image."""


@dataclass(frozen=True)
class MotionTest:
    """The particles against the nulls."""

    observed: MotionFound
    nulls: list[MotionFound]
    p_values: list[float]
    real: list[bool]
    likelihood_p_value: float
    likelihood_real: bool

    @property
    def dimensions(self) -> int:
        """Real latent dimensions."""
        return sum(self.real)


def find_motion(
    images: FourierImages,
    mask: Float[Tensor, "d d d"],
    settings: PPCASettings,
    seed: int,
    moving: Float[Tensor, "d d d"] | None = None,
) -> MotionFound:
    """Stage B on these images, at their (low) box."""
    mean = wiener_backprojection(images).volume
    found = fit_ppca(
        images,
        mean,
        mask,
        settings.dimension,
        settings.iterations,
        seed,
        None,
        settings.tolerance,
        contrast=settings.contrast,
        moving=moving,
    )
    return _summary(found)


def compare_motion(
    images: FourierImages,
    density: Float[Tensor, "d d d"],
    mask: Float[Tensor, "d d d"],
    settings: PPCASettings,
    nulls: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
    moving: Float[Tensor, "d d d"] | None = None,
) -> MotionTest:
    """Fit the images, and ``nulls`` simulations of ``density``; all at one low box.

    ``moving`` is where motion is looked for, of what ``mask`` holds (None: everywhere).
    """
    observed = find_motion(images, mask, settings, seed, moving)
    found: list[MotionFound] = []
    for number in range(1, nulls + 1):
        if progress is not None:
            progress(number / (nulls + 1))
        still = null_images(images, density, seed=1000 * (seed + 1) + number)
        found.append(find_motion(still, mask, settings, seed + number, moving))
    largest = [float(one.information[0]) for one in found]
    against = [against_chance(float(information), largest, LEAST_DEVIATION) for information in observed.information]
    likelihood = against_chance(observed.log_likelihood, [one.log_likelihood for one in found])
    real = [each.stands_out and each.observed > LEAST_INFORMATION for each in against]
    return MotionTest(
        observed, found, [each.p_value for each in against], real, likelihood.p_value, likelihood.stands_out
    )


def motion_outcome(test: MotionTest) -> Outcome:
    """The test in words and numbers."""
    observed, count = test.observed, test.dimensions
    chance = max(float(null.information[0]) for null in test.nulls)
    first = float(observed.information[0])
    if count:
        contrast = [number for number in range(count) if abs(observed.contrast[number]) > 0.9]
        sentence = (
            f"{count} latent dimension{'s' if count > 1 else ''} found in the particles cannot be noise: the images "
            f"determine the first to {100 * first:.0f} %, simulated particles that do not move to {100 * chance:.0f} %."
        )
        if contrast:
            sentence += f" Dimension {contrast[0] + 1} resembles a change of contrast rather than of shape."
    elif first <= LEAST_INFORMATION:
        sentence = "The particles show no motion: the images say nothing about any latent dimension."
    else:
        sentence = (
            f"No motion was shown: the images determine the first latent dimension to {100 * first:.0f} %, and "
            f"simulated particles that do not move reach {100 * chance:.0f} % by noise alone."
        )
    return Outcome(
        NAME,
        "holds" if count else "fails",
        sentence,
        {
            "real_dimensions": count,
            "nulls": len(test.nulls),
            "p_value": test.p_values[0],
            "log_likelihood_gain": observed.log_likelihood,
            "log_likelihood_gain_nulls": [null.log_likelihood for null in test.nulls],
            "log_likelihood_p_value": test.likelihood_p_value,
            "information": observed.information.tolist(),
            "information_p_values": test.p_values,
            "information_nulls_largest": [float(null.information[0]) for null in test.nulls],
            "latent_variance": observed.latent_variance.tolist(),
            "latent_variance_nulls_largest": [float(null.latent_variance.max()) for null in test.nulls],
            "likeness_to_consensus": observed.contrast.tolist(),
        },
    )


def _summary(ppca: PPCA) -> MotionFound:
    information = 1.0 - ppca.covariance.diagonal(dim1=1, dim2=2).mean(dim=0)
    order = information.argsort(descending=True)
    flat, mean = ppca.basis.flatten(1)[order], ppca.mean.flatten()
    contrast = torch.nn.functional.cosine_similarity(flat, mean[None], dim=1)
    return MotionFound(
        information=information[order].double().cpu().numpy(),
        latent_variance=ppca.latents.var(dim=0)[order].double().cpu().numpy(),
        contrast=contrast.double().cpu().numpy(),
        log_likelihood=ppca.log_likelihood,
    )
