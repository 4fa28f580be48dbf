r"""Point groups: C1, C2, .., D2, D3, .., T, O and I, their axes as scipy has them (the highest along z).

A density of a group is V(g x) = V(x), so the view at R is that at R g for every g of the group: an image is added to
the map at all of them, and of all rotations only one of each such set has to be searched.
"""

import re

import torch
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryoformer.errors import InputError


def rotation_group(name: str) -> Float[Tensor, "g 3 3"]:
    """The rotations of a point group, identity first.

    Raises:
        InputError: no such group.
    """
    text = name.strip().upper()
    if not re.fullmatch(r"[CD][1-9]\d?|T|O|I", text):
        raise InputError(f"--symmetry {name}: expected C1, C2, .., D2, D3, .., T, O or I")
    rotations = torch.from_numpy(Rotation.create_group(text).as_matrix()).float()
    order = (rotations.diagonal(dim1=1, dim2=2).sum(dim=1)).argsort(descending=True, stable=True)
    return rotations[order]


def in_asymmetric_unit(rotations: Float[Tensor, "r 3 3"], group: Float[Tensor, "g 3 3"]) -> Bool[Tensor, " r"]:
    """Which rotations are the nearest to identity of all that are equivalent to them."""
    # The largest trace of R g is that of the smallest angle.
    traces = torch.einsum("rij,gji->rg", rotations, group)
    return traces[:, 0] >= traces.amax(dim=1) - 1e-6
