r"""The path of highest density between two states: a geodesic of the particles' neighbour graph.

The length of an edge is |x_i - x_j|^p, p = 3 (Fermat distance: Groisman, Jonckheere and Sapienza, Bernoulli 2022). For
many particles such a geodesic minimises the integral of density^(-(p - 1) / d) along the path, so many short steps
through crowded regions beat few long ones across empty ones, and no density has to be estimated first.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra, minimum_spanning_tree
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

EXPONENT = 3.0
REPRESENTATIVES = 3000
NEIGHBOURS = 12
LOCAL = 25
"""Points of the path are means of so many particles around it: single latents scatter by their own noise."""


def density_path(
    latents: Float[np.ndarray, "n k"], start: int, end: int, frames: int, seed: int = 0
) -> Float[np.ndarray, "m k"]:
    """``frames`` latents [m, k], evenly spaced along the path of highest density from one particle to another.

    The graph holds both particles and at most 3,000 others drawn at random, so 100,000 latents take no longer.
    """
    values = np.asarray(latents, dtype=np.float64)
    drawn = np.random.default_rng(seed).permutation(len(values))[:REPRESENTATIVES]
    some = np.concatenate([[start, end], drawn[(drawn != start) & (drawn != end)]])
    chosen = _geodesic(values[some])
    line = _evenly_spaced(values[some][chosen], frames)
    around = cKDTree(values).query(line, k=min(LOCAL, len(values)))[1].reshape(len(line), -1)
    middle = values[around].mean(axis=1)
    middle[0], middle[-1] = values[start], values[end]
    return _evenly_spaced(middle, frames)


def _geodesic(points: Float[np.ndarray, "s k"]) -> Int[np.ndarray, " m"]:
    """Rows from the first point to the second along the shortest path."""
    count = min(NEIGHBOURS, len(points) - 1)
    distance, neighbour = cKDTree(points).query(points, k=count + 1)
    rows = np.repeat(np.arange(len(points)), count)
    # Zero would mean no edge.
    weights = np.maximum(distance[:, 1:].ravel(), 1e-9) ** EXPONENT
    graph = coo_matrix((weights, (rows, neighbour[:, 1:].ravel())), shape=(len(points),) * 2).tocsr()
    graph = _connected(graph, points)
    _, before = dijkstra(graph, directed=False, indices=0, return_predecessors=True)
    path = [1]
    while path[-1] != 0:
        path.append(int(before[path[-1]]))
    return np.array(path[::-1], dtype=np.int64)


def _connected(graph: csr_matrix, points: np.ndarray) -> csr_matrix:
    """The graph with the shortest bridges between its islands, so that there is always a path."""
    islands, label = connected_components(graph, directed=False)
    if islands == 1:
        return graph
    pairs, weights = {}, np.zeros((islands, islands))
    for a in range(islands):
        for b in range(a + 1, islands):
            left, right = np.flatnonzero(label == a), np.flatnonzero(label == b)
            between = cdist(points[left], points[right])
            i, j = np.unravel_index(int(between.argmin()), between.shape)
            pairs[a, b] = (left[i], right[j])
            weights[a, b] = max(float(between[i, j]), 1e-9) ** EXPONENT
    bridges = coo_matrix(minimum_spanning_tree(csr_matrix(weights)))
    ends = [pairs[a, b] for a, b in zip(bridges.row, bridges.col, strict=True)]
    rows, columns = np.array(ends).T
    return graph + coo_matrix((bridges.data, (rows, columns)), shape=graph.shape).tocsr()


def _evenly_spaced(points: Float[np.ndarray, "s k"], frames: int) -> Float[np.ndarray, "m k"]:
    """Points at even distances along the line through these, both ends kept."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    places = np.linspace(0.0, length[-1], frames)
    return np.stack([np.interp(places, length, column) for column in points.T], axis=1)
