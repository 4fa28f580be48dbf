"""ResMFN (Shekarforoush et al., NeurIPS 2022): one density and the rotations of all images, coarse to fine by gradient.

As the CryoFormer paper compares with it (appendices C and E): three layers of 128 frozen sine filters, outputs at three
bands that add up, 25, 25 and 50 epochs. As in its authors' program, a batch of 600 images takes five steps of the
network (Adam, 1e-3), then twenty of their rotations (Adam, 1e-2, both decays 0.9), on images blurred to the band. There
are no shifts in it: those given stay. What is ours: the network takes ``warm_up`` steps before any rotation is touched,
about as many as the first pass over its authors' images has, because rotations that follow a density which is still
noise lose all that was known of them; projections are slices of the density's transform, which is made on
a grid as fine as the band wants, within the largest ball of the box; derivatives by rotations are exact
(:mod:`cryoformer.poses.posterior`); and the first band is that of the paper's images, in cycles per box.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from pydantic import Field
from torch import Tensor

from cryoformer.baselines.folder import DECODER_FILE, BaselineFolder
from cryoformer.baselines.interface import Decode, FitData, Fitted
from cryoformer.baselines.interface import Settings as BaseSettings
from cryoformer.baselines.resmfn_model import ResidualMFN
from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.files import write_npz
from cryoformer.images.fourier_images import FourierImages, Images
from cryoformer.imaging.fourier import radii
from cryoformer.imaging.grids import grid_points
from cryoformer.imaging.slices import SlicePlane, extract_slices, fourier_from_volume, interpolate_slices
from cryoformer.linear.consensus import wiener_backprojection
from cryoformer.poses.posterior import SlopedDensity, turned

POSES_FILE = "poses.npz"
# The authors' images of 128 pixels begin at 64 / 3.3^2 cycles per box.
FIRST_BAND = 64 / 3.3**2


class Settings(BaseSettings):
    """As in the paper."""

    first_band: float = Field(default=FIRST_BAND, gt=0, description="In cycles per box; the last is that of the box")
    width: int = Field(default=128, ge=1, description="Of every layer")
    epochs: tuple[int, ...] = Field(default=(25, 25, 50), min_length=1, description="At each band")
    batch: int = Field(default=600, ge=1, description="Images a step")
    density_steps: int = Field(default=5, ge=1, description="Of the network, a batch")
    warm_up: int = Field(default=200, ge=0, description="Steps of the network before rotations are touched")
    pose_steps: int = Field(default=20, ge=0, description="Of rotations, a batch; 0: those given stay")
    learning_rate: float = Field(default=1e-3, gt=0, description="Of the network")
    pose_learning_rate: float = Field(default=1e-2, gt=0, description="Of rotations, in radians")


def fit(data: FitData, settings: Settings) -> Fitted:
    """Density and rotations of all images; the rotations are written beside the density."""
    data.log.stage("reading images")
    images = data.images()
    training = Training(images, settings)
    data.log.stage("training")
    epochs = train(training, data)
    volume = training.volume(images.box, training.band).detach()
    save_tensors(data.folder / DECODER_FILE, {"volume": volume.cpu()}, {})
    write_npz(data.folder / POSES_FILE, rotations=training.rotations.double().cpu().numpy())
    return Fitted(
        latents=np.zeros((len(images), 0), dtype=np.float32),
        box=images.box,
        pixel_size_angstrom=images.voxel_angstrom,
        facts={"epochs": [round(each, 2) for each in epochs], "bands": [round(each, 2) for each in training.bands]},
    )


def decoder(opened: BaselineFolder) -> Decode:
    """The one density, whatever the latent."""
    volume = load_tensors(opened.decoder_file)[0]["volume"].numpy()

    def decode(latents: Float[np.ndarray, "m k"]) -> Iterator[Float[np.ndarray, "d d d"]]:
        return (volume for _ in latents)

    return decode


class Training:
    """The network, the rotations of all images as they are now, and the steps that improve either."""

    def __init__(self, images: Images, settings: Settings) -> None:
        self.images, self.settings, self.band = images, settings, 1
        last = images.box / 2
        wider = len(settings.epochs) - 1
        growth = (last / min(settings.first_band, last)) ** (1 / max(1, wider))
        self.bands = tuple(last / growth ** (wider - number) for number in range(wider + 1))
        self.network = ResidualMFN(self.bands, settings.width).to(images.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.rotations = images.rotations.clone()
        start = wiener_backprojection(images).volume
        # An output of one stands for the density to be expected.
        self.unit = float(start.std())

    def box(self, band: int) -> int:
        """The smallest box that holds a band."""
        return min(self.images.box, 2 * math.ceil(self.bands[band - 1]) + 4)

    def volume(self, box: int, band: int) -> Float[Tensor, "d d d"]:
        """The density as far as a band, at the voxels of a box, zero outside of its largest ball."""
        points = (grid_points(box, 1.0) / box).to(self.images.device)
        inside = points.norm(dim=1) < 0.5
        density = points.new_zeros(len(points))
        # A coarser voxel holds as much as all the fine ones in it.
        scale = self.unit * (self.images.box / box) ** 3
        return density.masked_scatter(inside, scale * self.network(points[inside], band)).view(box, box, box)

    def step(self, images: FourierImages) -> float:
        """A step of the network; the mean squared error, in units of the noise, before it."""
        loss = self.error(images)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def error(self, images: FourierImages) -> Float[Tensor, ""]:
        """Mean of |Y - C P V|^2 / s^2 over images and coefficients."""
        plane = SlicePlane.of_box(images.box, images.device)
        coefficients = fourier_from_volume(self.volume(images.box, self.band)).reshape(-1)
        table = torch.stack([coefficients.real, coefficients.imag], dim=1)
        slices = extract_slices(table, interpolate_slices(plane, images.views()), 1)[..., 0]
        deviation = images.slice_deviation(plane)
        residual = (plane.take(images.coefficients) - plane.take(images.ctf) * slices) / deviation
        return residual.abs().square().mean()

    def turn(self, images: FourierImages) -> Float[Tensor, "b 3 3"]:
        """The rotations of images after some steps down the gradient of their error, the density held."""
        with torch.no_grad():
            volume = self.volume(images.box, self.band)
        density = SlopedDensity(volume[None], images.pixel_size_angstrom)
        turn = torch.zeros(len(images), 3, device=images.device, requires_grad=True)
        optimizer = torch.optim.Adam([turn], lr=self.settings.pose_learning_rate, betas=(0.9, 0.9))
        for _ in range(self.settings.pose_steps):
            # Derivatives are known where the turn is 0: what was turned so far goes into the rotations.
            rotations = turned(images.rotations, turn.detach())
            turn.grad = rotation_gradient(images, density, rotations)
            optimizer.step()
        return turned(images.rotations, turn.detach())


def rotation_gradient(
    images: FourierImages, density: SlopedDensity, rotations: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b 3"]:
    """Derivatives of every image's |Y - C P V|^2 / s^2 by a small turn about the axes of the image."""
    deviation = images.slice_deviation(density.plane)
    value, slopes = density.project(rotations, images.coefficients.new_zeros(len(rotations), 0).real, images.scale)
    ctf = density.plane.take(images.ctf) / deviation
    residual: Complex[Tensor, "b m"] = density.plane.take(images.coefficients) / deviation - ctf * value
    return -2 * (residual.conj()[..., None] * slopes[..., :3] * ctf[..., None]).real.sum(dim=1)


def train(training: Training, data: FitData) -> list[float]:
    """All bands, each to the end of its epochs or of its share of the time; the epochs done at each."""
    settings, done = training.settings, list[float]()
    for number, epochs in enumerate(settings.epochs):
        training.band = number + 1
        share = sum(settings.epochs[: number + 1]) / sum(settings.epochs)
        data.log.say(f"band {training.band}: {training.bands[number]:.1f} cycles per box")
        done.append(_train_band(training, data, epochs, share))
    return done


def _train_band(training: Training, data: FitData, epochs: int, share: float) -> float:
    """Epochs at one band until the time is up, of which this share is for this band and those before."""
    settings = training.settings
    images = training.images.crop(training.box(training.band))
    window = blur(images, training.bands[training.band - 1])
    generator = torch.Generator().manual_seed(1000 * data.reading.seed + training.band)
    if training.band == 1:
        _warm_up(training, images, window, generator)
    steps = -(-len(images) // settings.batch)
    for step, rows in enumerate(_batches(len(images), settings.batch, epochs, generator)):
        rows = rows.to(images.device)
        batch = _taken(training, images, window, rows)
        error = [training.step(batch) for _ in range(settings.density_steps)][-1]
        if settings.pose_steps:
            training.rotations[rows] = training.turn(batch)
        done = (step + 1) / steps
        data.log.advance(done / epochs, f"band {training.band}, epoch {done:.1f}, error {error:.4f}")
        if (step + 1) % steps == 0:
            data.log.record(stage="resmfn", band=training.band, epoch=round(done) - 1, error=round(error, 5))
        if data.seconds is not None and data.log.elapsed > share * data.seconds:
            data.log.say(f"time for band {training.band} is up after {done:.1f} epochs")
            return done
    return float(epochs)


def blur(images: Images, band: float) -> Float[Tensor, "d h"]:
    """What images are multiplied by so that they have little beyond a band: a Gaussian of 2/3 of it."""
    return torch.exp(-0.5 * (radii(images.box, images.device) / (2 * band / 3)).square())


def _taken(training: Training, images: Images, window: Float[Tensor, "d h"], rows: Int[Tensor, " b"]) -> FourierImages:
    """Some images, blurred, at their rotations as they are now."""
    batch = images.take(rows)
    return replace(batch, coefficients=batch.coefficients * window, rotations=training.rotations[rows])


def _warm_up(training: Training, images: Images, window: Float[Tensor, "d h"], generator: torch.Generator) -> None:
    """The density at the rotations given, before these are touched."""
    size, steps = min(training.settings.batch, len(images)), training.settings.warm_up
    for rows in islice(_batches(len(images), size, steps, generator), steps):
        training.step(_taken(training, images, window, rows.to(images.device)))


def _batches(count: int, size: int, epochs: int, generator: torch.Generator) -> Iterator[Int[Tensor, " b"]]:
    for _ in range(epochs):
        yield from torch.randperm(count, generator=generator).split(size)
