"""A network whose densities are known in a formula."""

from collections.abc import Callable

import torch

from cryoformer.decode.density_model import ConformationModel
from cryoformer.imaging.grids import grid_points
from cryoformer.model.cryoformer import CryoFormer
from toy_images import BOX, PIXEL

Formula = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Known(CryoFormer):
    """Gives the density of a latent at points [p, 3], Angstrom from the centre of the box."""

    def __init__(self, formula: Formula) -> None:
        torch.nn.Module.__init__(self)
        self.formula = formula

    def prepare_points(self, unit: torch.Tensor) -> torch.Tensor:
        return (unit - 0.5) * BOX * PIXEL

    def forward(self, points: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.formula(latent, points) for latent in latents])


def known_network(formula: Formula, shown: torch.Tensor) -> ConformationModel:
    """It, where there is anything at the latent ``shown``."""
    window = (formula(shown, grid_points(BOX, PIXEL)) > 1e-4).float().view(BOX, BOX, BOX)
    return ConformationModel(Known(formula), torch.zeros(BOX, BOX, BOX), window, PIXEL)
