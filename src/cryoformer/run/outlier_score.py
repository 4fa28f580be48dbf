r"""How badly each image fits the model: an outlier score by which junk can be told from particles.

Two hypotheses of the whitened coefficients y of an image, half-plane, noise of unit variance: it shows the model's
density at its own pose and latent, p = C P V(z) / s, with a contrast a ~ N(m, c^2); or anything else of the same power
per shell S, which has nothing of the model's phases. Their log likelihood ratio is, up to a constant,

    L = max_a [ 2 a Re <y, p> - a^2 |p|^2 - (a - m)^2 / 2 c^2 ] - sum_k [ (1 - w) |y|^2 + log w ],

w = 1 / (1 + C^2 S / s^2). Another molecule, an empty image and a particle off its centre all lose by it, whether they
are too strong or too weak. How much is expected of a good image depends on its view and defocus, and is known,

    E = sum_k [ w m^2 |p|^2 - (1 - w) e - log w ]
    Var = sum_k [ (1 - w)^2 e + 2 w^2 m^2 |p|^2 ] + (2 c m sum_k w |p|^2)^2,

e the share of the noise's power that soft edges leave in an image, so what counts is (E - L) / Var^1/2. No model is
perfect: poses are off by a little, detail is missing, which costs more where more was expected. A straight line through
held-out images, robust against junk among them, says how much, and their scatter what one standard deviation is; m and
c come from them too. A good image has a score of 0 +- 1; junk, a large positive one.

Junk is part of what the model was made from: a few hundred images of another molecule may be a state of their own to
it, far from all others, that fits them well; empty images, a faint one. So those whose latents lie far out are compared
with the nearest state where most particles are, which particles at the end of a large motion still resemble; and every
image with the state in the middle too. The worse score counts.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from scipy.stats import theilslopes
from torch import Tensor

from cryoformer.decode.density_model import ConformationModel
from cryoformer.decode.latent_posterior import LATENT_BOX
from cryoformer.images.fourier_images import FourierImages, Images, SliceProjector
from cryoformer.imaging.fourier import shells
from cryoformer.imaging.grids import crop_volume
from cryoformer.imaging.slices import shell_power
from cryoformer.parts.moving_density import MovingDensity
from cryoformer.training.shared_states import draw_shared_states

# Densities that stand for those of all latents; images of a state are projected from its density.
STATES = 128
# Latents further from the median along any axis, in robust standard deviations, are far out.
REACH = 2.5
# Contrasts scatter by as much at least and at most, as far as the score knows.
CONTRAST_SPREADS = (0.02, 0.5)
MOST_CALIBRATED = 2000
# That the score of an image is made of.
SUMS = 7
DROP_ABOVE = 4.0
"""Images above this score are dropped, unless another is asked for: of good ones, one in thirty thousand."""


@torch.no_grad()
def outlier_scores(
    images: Images,
    decoder: ConformationModel | MovingDensity,
    latents: Float[Tensor, "n k"],
    held_out: Int[Tensor, " h"],
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> Float[Tensor, " n"]:
    """The score of every image.

    Args:
        images: with noise spectrum, and with CTFs that know nothing of contrasts.
        decoder: what gives densities at latents.
        latents: of all images, whatever processes share them.
        held_out: rows of all images that calibrate the score.
        seed: of the states that stand for the latents.
    """
    low, part = images.crop(min(images.box, LATENT_BOX)), images.part
    centres, of_image = _states(latents, seed)
    mine = of_image[part.start : part.stop]
    found, done, middle, power = latents.new_zeros(len(low), 2, SUMS), 0, None, None
    for number, density in enumerate(_densities(decoder, centres, low.box)):
        own = SliceProjector(density)
        if middle is None or power is None:
            # All states have the same spectrum, for this purpose.
            middle, power = own, shell_power(density[None])[0]
        for rows, some in low.batches((mine == number).nonzero()[:, 0].split(low.batch)):
            found[rows] = _sums(low, some, (own, middle), power)
            done += len(rows)
            if progress is not None:
                progress(done / len(low))
    calibrated = held_out[:MOST_CALIBRATED]
    of_own, of_middle = (_scores(sums, calibrated) for sums in part.processes.gather(found).unbind(dim=1))
    return _standardised(torch.maximum(of_own, of_middle), calibrated)


def _states(latents: Float[Tensor, "n k"], seed: int) -> tuple[Float[Tensor, "s k"], Int[Tensor, " n"]]:
    """The state in the middle, those of the latents where most particles are, and the number of every image's state
    among them: the nearest of these for all that lie far out."""
    middle = latents.median(dim=0).values
    usual = ((latents - middle).abs() <= REACH * _deviation(latents)).all(dim=1)
    size = max(1, int(usual.sum()) // STATES)
    states = draw_shared_states(latents[usual], size, torch.Generator().manual_seed(seed))
    of_image = torch.empty(len(latents), dtype=torch.long, device=latents.device)
    of_image[usual] = 1 + states.of_image
    of_image[~usual] = 1 + torch.cdist(latents[~usual], states.centres).argmin(dim=1)
    return torch.cat([middle[None], states.centres]), of_image


def _deviation(values: Float[Tensor, "n *k"]) -> Float[Tensor, "*k"]:
    """Standard deviation by the median absolute one, as of a normal distribution."""
    return 1.4826 * (values - values.median(dim=0).values).abs().median(dim=0).values


def _densities(
    decoder: ConformationModel | MovingDensity, latents: Float[Tensor, "s k"], box: int
) -> Iterator[Float[Tensor, "d d d"]]:
    """Densities at latents, at a smaller box, one at a time."""
    if isinstance(decoder, MovingDensity):
        ratio = (box / decoder.densities.box) ** 3
        for volume in decoder.at_box(box).volumes(latents):
            yield torch.from_numpy(volume).to(latents.device) / ratio
        return
    points, static = decoder.points(box), crop_volume(decoder.static, box)
    for latent in latents.split(1):
        yield static + decoder.added(points, decoder.decode(points, latent) * points.volume_ratio)[0]


def _sums(
    images: Images, some: FourierImages, projectors: tuple[SliceProjector, ...], power: Float[Tensor, " s"]
) -> Float[Tensor, "b p 7"]:
    """Of some of the images, if they show each projector's density, the sums over coefficients that the score is of.

    Re <y, p>, |p|^2, (1 - w) |y|^2 + log w, w |p|^2, e (1 - w) + log w, e (1 - w)^2, and w^2 |p|^2.
    """
    plane = projectors[0].plane
    deviation = images.slice_deviation(plane)
    ctf = plane.take(some.ctf) / deviation
    seen = plane.take(some.coefficients) / deviation
    of_shell = plane.take(power[shells(images.box, images.device).clamp(max=len(power) - 1)])
    w = 1 / (1 + ctf.square() * of_shell)
    alone = (1 - w) * seen.abs().square() + w.log()
    constant, spread = images.noise_kept * (1 - w) + w.log(), images.noise_kept * (1 - w).square()
    found = []
    for projector in projectors:
        shown = plane.take(projector.project(some.views())) * ctf
        squares = shown.abs().square()
        each = ((seen * shown.conj()).real, squares, alone, w * squares, constant, spread, w.square() * squares)
        found.append(torch.stack([values.sum(dim=1) for values in each], dim=1))
    return torch.stack(found, dim=1)


def _scores(sums: Float[Tensor, "n 7"], held_out: Int[Tensor, " h"]) -> Float[Tensor, " n"]:
    """(E - L) / Var^1/2 less what the held-out images lose on average, over their scatter."""
    match, energy, other, shared, constant, spread_of_other, spread_of_shared = sums.double().unbind(dim=1)
    fitted = (match / energy)[held_out]
    mean = fitted.median()
    # What is left of their scatter without that of their errors.
    errors = (0.5 / energy[held_out]).median()
    spread = (_deviation(fitted).square() - errors).clamp_min(0).sqrt() / mean
    spread = mean * spread.clamp(*CONTRAST_SPREADS)
    tightness = 1 / spread.square()
    seen = (
        (2 * match + mean * tightness).square() / (2 * (2 * energy + tightness)) - mean.square() * tightness / 2 - other
    )
    expected = mean.square() * shared - constant
    variance = spread_of_other + 2 * mean.square() * spread_of_shared + (2 * spread * mean * shared).square()
    lost = expected - seen
    slope, start, _, _ = theilslopes(lost[held_out].cpu().numpy(), expected[held_out].cpu().numpy())
    scores = (lost - float(start) - float(slope) * expected) / variance.sqrt()
    return _standardised(scores, held_out).float()


def _standardised(scores: Float[Tensor, " n"], held_out: Int[Tensor, " h"]) -> Float[Tensor, " n"]:
    """With a median of 0 and a deviation of 1 among held-out images."""
    centred = scores - scores[held_out].median()
    return centred / _deviation(scores[held_out]).clamp_min(torch.finfo(torch.float32).tiny)
