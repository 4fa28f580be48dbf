"""Volumes that the imaging tests share."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter


def _smooth_volume(box: int, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal((box, box, box))
    blobs = gaussian_filter(noise, 2.5)
    axis = np.arange(box) - box // 2
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis)))
    return torch.tensor(blobs * (radius < box * 0.3), dtype=torch.float32)


@pytest.fixture
def smooth_volume() -> Callable[..., torch.Tensor]:
    """``smooth_volume(box, seed=0)``: band-limited blobs well inside the box, where all renderers are accurate."""
    return _smooth_volume
