"""A small RELION data set that tests bend out of shape."""

import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile


class StarDataset:
    """Two stacks, two optics groups, five particles; ``write`` puts it on disk as it then is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        generator = np.random.default_rng(1)
        self.stacks = {
            "first.mrcs": generator.normal(size=(3, 8, 8)).astype(np.float32),
            "sub/second.mrcs": generator.normal(size=(4, 8, 8)).astype(np.float32),
        }
        self.header_pixel_size = 1.5
        self.optics = pd.DataFrame(
            {
                "rlnOpticsGroup": [7, 3],
                "rlnOpticsGroupName": ["late", "early"],
                "rlnVoltage": [200.0, 300.0],
                "rlnSphericalAberration": [2.7, 2.0],
                "rlnAmplitudeContrast": [0.07, 0.1],
                "rlnImagePixelSize": [1.5, 1.52],
                "rlnImageSize": [8, 8],
                "rlnImageDimensionality": [2, 2],
            }
        )
        self.particles = pd.DataFrame(
            {
                "rlnImageName": [
                    "000002@first.mrcs",
                    "4@sub/second.mrcs",
                    "000001@first.mrcs",
                    "1@sub/second.mrcs",
                    "2@sub/second.mrcs",
                ],
                "rlnOpticsGroup": [3, 7, 3, 7, 7],
                "rlnAngleRot": [10.0, 20.0, -30.0, 40.0, 170.0],
                "rlnAngleTilt": [30.0, 60.0, 90.0, 120.0, 5.0],
                "rlnAnglePsi": [-170.0, 0.0, 45.0, 90.0, 100.0],
                "rlnOriginXAngst": [1.0, -2.0, 3.0, 0.0, 5.0],
                "rlnOriginYAngst": [-0.5, 4.0, 0.0, 1.0, 2.0],
                "rlnDefocusU": [15000.0, 16000.0, 17000.0, 18000.0, 19000.0],
                "rlnDefocusV": [14900.0, 15800.0, 17100.0, 18000.0, 18500.0],
                "rlnDefocusAngle": [0.0, 30.0, -45.0, 60.0, 80.0],
                "rlnPhaseShift": [0.0, 90.0, 0.0, 0.0, 45.0],
                "rlnCtfBfactor": [0.0, 0.0, 50.0, 0.0, 0.0],
                "rlnRandomSubset": [1, 2, 1, 2, 1],
            }
        )

    @property
    def path(self) -> Path:
        return self.folder / "particles.star"

    def image(self, row: int) -> np.ndarray:
        """What row ``row`` refers to."""
        index, name = self.particles["rlnImageName"][row].split("@")
        return self.stacks[name][int(index) - 1]

    def write_stacks(self) -> None:
        for name, images in self.stacks.items():
            (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
            with warnings.catch_warnings(action="ignore"), mrcfile.new(self.folder / name, overwrite=True) as mrc:
                mrc.set_data(images)
                mrc.set_image_stack()
                mrc.voxel_size = self.header_pixel_size

    def write(self, *, optics: bool = True) -> Path:
        self.write_stacks()
        blocks = {"optics": self.optics, "particles": self.particles} if optics else {"": self.particles}
        starfile.write(blocks, self.path)
        return self.path


@pytest.fixture
def dataset(tmp_path: Path) -> StarDataset:
    return StarDataset(tmp_path)
