r"""Independent runs: two that share no particle find the same states and the same motion.

Run A is trained on one half of the particles, run B on the other; they share no image, no network and no latent
space. Then the latents of particles of BOTH halves are read under both decoders. The latents of A are cut into
clusters; a cluster's state is what A decodes at the mean latent of its particles under A, and its match is what B
decodes at the mean latent of the same particles under B. So states are matched by particles, and the two densities come
from decoders that never saw the same image. Compared are

* FSC of matched states, over the whole molecule and in the flexible region, corrected for the masks
  (:func:`.fsc.masked_fsc`). The spectra are made flat first: a filtered map is weak in its high shells, and through a
  tight mask its low shells would leak there and drown them,
* the motion: the correlation over voxels and states of the deviations from the mean state,
  sum (A_s - A)(B_s - B) / sqrt(sum (A_s - A)^2 sum (B_s - B)^2), in the flexible region as a whole and in each of its
  parts, against the same with states matched at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.ndimage import label

from cryoformer.assess.clusters import clusters
from cryoformer.decode.latent_posterior import LATENT_BOX, refine_latents
from cryoformer.decode.volume_source import class_means
from cryoformer.images.fourier_images import Images
from cryoformer.imaging.fsc import masked_fsc, resolution
from cryoformer.imaging.grids import half_volume_radii
from cryoformer.run.run_folder import Run
from cryoformer.validate.outcome import Outcome

NAME = "halves"
STATES = 6
PARTICLES = 2000
SHUFFLES = 500
THRESHOLD = 0.143
LEAST_CORRELATION = 0.5
LEAST_PART = 0.05
"""Parts of the flexible region smaller than this share of it are not reported by themselves."""


@dataclass(frozen=True)
class IndependentRuns:
    """Agreement of two independent runs; one row a state, largest cluster first."""

    shares: Float[np.ndarray, " m"]
    molecule_fsc: Float64[np.ndarray, "m s"]
    flexible_fsc: Float64[np.ndarray, "m s"]
    consensus_fsc: Float64[np.ndarray, "2 s"]
    """Of the homogeneous half maps over the molecule and in the flexible region, for comparison."""
    motion_correlation: float
    part_correlations: list[float]
    shuffled: Float64[np.ndarray, " r"]
    spread_correlation: float
    box: int
    pixel_size_angstrom: float

    def resolutions(self, curves: Float64[np.ndarray, "r s"]) -> list[float]:
        """In Angstrom at 0.143, per curve."""
        return [resolution(curve, self.box, self.pixel_size_angstrom, THRESHOLD) for curve in curves]

    @property
    def p_value(self) -> float:
        """Share of random matches that correlate as well."""
        return float((1 + (self.shuffled >= self.motion_correlation).sum()) / (1 + len(self.shuffled)))


def compare_runs(
    first: Run,
    second: Run,
    latents: tuple[Float[np.ndarray, "n j"], Float[np.ndarray, "n k"]],
    masks: tuple[Float[np.ndarray, "d d d"], Float[np.ndarray, "d d d"]],
    half_maps: Float[np.ndarray, "2 d d d"],
    seed: int,
    states: int = STATES,
) -> IndependentRuns:
    """Match the states of two runs through the same particles.

    Args:
        latents: of n particles under the one run and under the other (:func:`read_latents`).
        masks: soft, of what is occupied and of what is flexible.
        half_maps: of the consensus.
    """
    molecule, flexible = masks
    labels = clusters(latents[0], states, seed).labels
    count = int(labels.max()) + 1
    a, b = (
        np.stack(list(run.latent_volumes(class_means(read, labels, list(range(count))))))
        for run, read in zip((first, second), latents, strict=True)
    )
    deviations = deviations_from_mean(a), deviations_from_mean(b)
    inside = flexible > 0.5
    rng = np.random.default_rng(seed)
    shuffles = list(_shuffles(count, rng))
    spread_a, spread_b = (np.sqrt((d**2).mean(axis=0))[molecule > 0.5] for d in deviations)
    pairs = [flattened(x, y) for x, y in zip(a, b, strict=True)]
    return IndependentRuns(
        shares=np.bincount(labels) / len(labels),
        molecule_fsc=np.stack([masked_fsc(x, y, molecule, seed) for x, y in pairs]),
        flexible_fsc=np.stack([masked_fsc(x, y, flexible, seed) for x, y in pairs]),
        consensus_fsc=np.stack([masked_fsc(*flattened(half_maps[0], half_maps[1]), mask, seed) for mask in masks]),
        motion_correlation=correlation(*deviations, inside),
        part_correlations=[correlation(*deviations, part) for part in parts(inside)],
        shuffled=np.array([correlation(deviations[0], deviations[1][order], inside) for order in shuffles]),
        spread_correlation=float(np.corrcoef(spread_a, spread_b)[0, 1]),
        box=first.box,
        pixel_size_angstrom=first.pixel_size_angstrom,
    )


def read_latents(run: Run, images: Images, seed: int) -> Float[np.ndarray, "n k"]:
    """Latents of any images under the decoder of a run."""
    low = images.crop(min(LATENT_BOX, images.box))
    states = int(run.config["settings"]["latent_states"])
    support = torch.from_numpy(run.latents).float()
    return refine_latents(run.model, low, support, states, seed)[0].cpu().numpy()


def flattened(
    a: Float[np.ndarray, "d d d"], b: Float[np.ndarray, "d d d"]
) -> tuple[Float64[np.ndarray, "d d d"], Float64[np.ndarray, "d d d"]]:
    """Both volumes with the same power in all shells, by one factor per shell for both; their FSC stays what it was."""
    shell = half_volume_radii(a.shape[-1]).round().long().numpy()
    one, other = (np.fft.rfftn(v.astype(np.float64)) for v in (a, b))
    power = np.bincount(shell.reshape(-1), (np.abs(one) * np.abs(other)).reshape(-1)) / np.bincount(shell.reshape(-1))
    # What is empty stays empty.
    factor = np.where(power > 1e-12 * power.max(), 1.0 / np.sqrt(np.maximum(power, 1e-300)), 0.0)[shell]
    x, y = (np.fft.irfftn(v * factor, s=a.shape, axes=(0, 1, 2)) for v in (one, other))
    return x, y


def deviations_from_mean(volumes: Float[np.ndarray, "m d d d"]) -> Float64[np.ndarray, "m d d d"]:
    """What changes from state to state."""
    return np.asarray(volumes - volumes.mean(axis=0), dtype=np.float64)


def correlation(a: Float64[np.ndarray, "m d d d"], b: Float64[np.ndarray, "m d d d"], inside: np.ndarray) -> float:
    """Correlation of the deviations over the voxels inside and all states; 0 where nothing deviates."""
    x, y = a[:, inside], b[:, inside]
    power = float((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / np.sqrt(power)) if power > 0 else 0.0


def parts(inside: np.ndarray) -> Iterator[np.ndarray]:
    """Connected parts of a region, largest first, without crumbs."""
    found, count = label(inside)
    sizes = np.bincount(found.reshape(-1), minlength=count + 1)[1:]
    for number in np.argsort(-sizes, kind="stable"):
        if sizes[number] >= LEAST_PART * inside.sum():
            yield found == number + 1


def runs_outcome(test: IndependentRuns) -> Outcome:
    """The comparison in words and numbers."""
    molecule, flexible = test.resolutions(test.molecule_fsc), test.resolutions(test.flexible_fsc)
    same = test.motion_correlation > LEAST_CORRELATION and test.p_value < 0.05
    found = "the same motion" if same else "different motions"
    return Outcome(
        NAME,
        "holds" if same else "fails",
        f"Two runs that share no particle find {found} (correlation {test.motion_correlation:.2f} in the flexible "
        f"region); their states agree to {np.median(molecule):.1f} A over the molecule and {np.median(flexible):.1f} A "
        "in the flexible region.",
        {
            "motion_correlation": test.motion_correlation,
            "motion_correlation_parts": test.part_correlations,
            "p_value": test.p_value,
            "motion_correlation_random_match": float(np.quantile(test.shuffled, 0.95)),
            "spread_correlation": test.spread_correlation,
            "state_shares": test.shares.tolist(),
            "resolution_molecule_angstrom": molecule,
            "resolution_flexible_angstrom": flexible,
            "resolution_consensus_angstrom": test.resolutions(test.consensus_fsc),
            "fsc_molecule": test.molecule_fsc.mean(axis=0).tolist(),
            "fsc_flexible": test.flexible_fsc.mean(axis=0).tolist(),
        },
    )


def _shuffles(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Matches of states at random, other than the right one."""
    right = np.arange(count)
    for _ in range(SHUFFLES):
        order = rng.permutation(count)
        if count < 2 or (order != right).any():
            yield order
