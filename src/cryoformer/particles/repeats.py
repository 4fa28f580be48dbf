"""Rows that are of one image, and halves of the data that keep them together.

A particle file may list an image more than once: joined files, symmetry-expanded particles, duplicates of the picking.
What is fitted to one row knows the noise of the other, so all rows of an image belong to one half wherever the data are
divided. Rows are divided as the images that they name: without repeats, as rows.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int, Integer

from cryoformer.particles.particles import Particles
from cryoformer.particles.references import ImageReferences


def image_numbers(particles: Particles) -> Int[np.ndarray, " n"]:
    """The image of each row, numbered from 0 by first appearance; rows of one image have one number.

    Stacks are told apart by the files that they are, if they are open, else by how their paths are written. Particles
    that do not say which images they are have one each.
    """
    if particles.stacks is not None:
        places = [_file(header.path) for header in particles.stacks.headers]
        return _numbered(places, particles.stacks.stack_of_row, particles.stacks.index_of_row)
    if particles.references is None:
        return np.arange(len(particles))
    return reference_numbers(particles.references)


def reference_numbers(references: ImageReferences) -> Int[np.ndarray, " n"]:
    """The same of references alone."""
    places = [os.path.normpath(Path(path)) for path in references.paths]
    return _numbered(places, references.path_of_row, references.index_of_row)


def _file(path: Path) -> str:
    """The same for all names of a file, links of either kind included."""
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _numbered(
    places: list[str], place_of_row: Integer[np.ndarray, " n"], index_of_row: Integer[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    if len(index_of_row) == 0:
        return np.zeros(0, dtype=np.int64)
    number_of_place = np.unique(np.array(places), return_inverse=True)[1]
    keys = number_of_place[place_of_row].astype(np.int64) * (int(index_of_row.max()) + 1) + index_of_row
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]


def shuffled(images: Int[np.ndarray, " n"], generator: np.random.Generator) -> Int[np.ndarray, " n"]:
    """All rows in random order, but those of one image one after the other."""
    order = generator.permutation(int(images.max()) + 1)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return np.argsort(place[images], kind="stable")


def between_images(rows: Int[np.ndarray, " n"], images: Int[np.ndarray, " n"], place: int) -> int:
    """The first place from here on where these rows can be cut so that no image lies on both sides."""
    while 0 < place < len(rows) and images[rows[place]] == images[rows[place - 1]]:
        place += 1
    return place


def halves_together(half_set: Integer[np.ndarray, " n"], images: Int[np.ndarray, " n"]) -> Integer[np.ndarray, " n"]:
    """Given halves, with every row in the half of the first row of its image."""
    _, first, number = np.unique(images, return_index=True, return_inverse=True)
    return half_set[first][number]
