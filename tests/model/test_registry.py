"""Networks from a file of one's own: they train, are opened again by whoever names the file, and by nobody else."""

import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.model.cryoformer import CryoFormer
from cryoformer.model.model_config import ModelConfig
from cryoformer.model.registry import DECODERS, ENCODERS, register_encoder
from cryoformer.run.run_folder import open_run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "film_decoder.py"


@pytest.fixture
def film() -> Iterator[None]:
    """The example, registered for one test."""
    spec = importlib.util.spec_from_file_location("film_decoder", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    DECODERS.pop("film")


def test_the_example_learns_the_motion_and_is_opened_by_who_names_it(
    film: None, small_run: Callable[..., str], tmp_path: Path
) -> None:
    model = {"queries": 8, "channels": 8, "hash_levels": 4, "hash_table_log2": 10, "encoder_layers": 2}
    gains = {}
    for name in ("film", "concatenate"):
        small_run(tmp_path / name, model=model | {"decoder": name})
        gains[name] = [line["held_out_gain"] for line in open_run(tmp_path / name).metrics if "held_out_gain" in line][
            -1
        ]
    # Better than a still density on images not seen, as the built-in one of table 1 is; on this toy they are near.
    assert gains["film"] > 1
    assert gains["film"] > 0.7 * gains["concatenate"]
    own = DECODERS.pop("film")
    with pytest.raises(InputError, match=r"decoder = 'film'.*--plugin"):
        open_run(tmp_path / "film")
    DECODERS["film"] = own


def test_an_encoder_of_ones_own_gives_the_deformation_feature() -> None:
    @register_encoder("straight")
    class Straight(nn.Module):
        def __init__(self, config: ModelConfig) -> None:
            super().__init__()
            self.shape = (config.queries, config.channels)
            self.linear = nn.Linear(config.latent_dimension, math.prod(self.shape))

        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return self.linear(latents).unflatten(-1, self.shape)

    try:
        network = CryoFormer(ModelConfig(queries=4, channels=8, encoder="straight", latent_dimension=2), 16)
        assert network.deformation(torch.randn(3, 2)).shape == (3, 4, 8)
        assert network(torch.rand(5, 3), torch.randn(3, 2)).shape == (3, 5)
    finally:
        ENCODERS.pop("straight")


def test_the_command_reads_the_file_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plugin", str(tmp_path / "none.py"), "volumes", "RUN", "--out", "X"]) == 2
    assert "none.py: cannot be read as a Python file" in capsys.readouterr().err
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    assert main(["--plugin", str(broken), "volumes", "RUN", "--out", "X"]) == 2
    assert "division by zero" in capsys.readouterr().err
    assert main(["--plugin", str(EXAMPLE), "volumes", str(tmp_path), "--out", str(tmp_path / "X")]) == 2
    assert "film" in DECODERS
    DECODERS.pop("film")
