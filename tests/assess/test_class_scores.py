"""Scores of classes: what tells all, what tells nothing, and uneven classes in between."""

import numpy as np
import pytest

from cryoformer.assess.class_scores import class_scores
from cryoformer.errors import InputError


def clouds(counts: tuple[int, ...], apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds of unit spread at the corners of a simplex, and which of them a point is of."""
    classes = np.repeat(np.arange(len(counts)), counts)
    points = np.random.default_rng(seed).standard_normal((len(classes), len(counts)))
    return points + apart * np.eye(len(counts))[classes], classes


def test_clouds_far_apart_tell_all() -> None:
    scores = class_scores(*clouds((300, 150, 50), apart=12.0))
    assert (scores.knn_accuracy, scores.knn_balanced_accuracy, scores.kmeans_rand) == (1.0, 1.0, 1.0)
    assert scores.knn_accuracy_per_class == (1.0, 1.0, 1.0)
    assert (scores.classes, scores.neighbours) == (3, 25)


def test_latents_that_tell_nothing_reach_the_largest_class_and_no_more() -> None:
    scores = class_scores(*clouds((700, 200, 100), apart=0.0))
    assert scores.largest_class == 0.7
    assert scores.knn_accuracy == pytest.approx(0.7, abs=0.02)
    assert scores.knn_balanced_accuracy == pytest.approx(1 / 3, abs=0.03)
    assert abs(scores.kmeans_rand) < 0.05


def test_a_small_class_that_is_missed_shows_in_the_balanced_accuracy() -> None:
    points, classes = clouds((940, 40, 20), apart=12.0)
    # The smallest class lies inside the largest.
    points[classes == 2] = points[:20] + 1e-3
    scores = class_scores(points, classes)
    assert scores.knn_accuracy > 0.97
    assert scores.knn_accuracy_per_class[2] == 0.0
    assert scores.knn_balanced_accuracy == pytest.approx(2 / 3, abs=0.01)


def test_a_long_motion_lowers_the_rand_index_but_not_the_accuracy() -> None:
    generator = np.random.default_rng(0)
    classes = np.repeat([0, 1], 400)
    along = generator.uniform(0.0, 50.0, 800)
    points = np.stack([along, 4.0 * classes + 0.3 * generator.standard_normal(800)], axis=1)
    scores = class_scores(points, classes)
    assert scores.knn_accuracy > 0.99
    assert scores.kmeans_rand < 0.05


def test_no_particle_votes_for_itself_and_numbers_of_classes_do_not_matter() -> None:
    # Pairs of different classes side by side: one neighbour is always wrong.
    points = np.repeat(np.arange(20.0), 2)[:, None] * 10 + np.tile([0.0, 0.1], 20)[:, None]
    classes = np.tile([3, 8], 20)
    scores = class_scores(points, classes, neighbours=1)
    assert scores.knn_accuracy == 0.0
    assert scores.classes == 2
    with pytest.raises(InputError, match="at least 3"):
        class_scores(points[:2], classes[:2])
