"""Lets passages that are like each other share their scores: what answers a question together is found together.

Score regularization by diffusion on the graph of nearest neighbours (Zhou et al. 2004, "Ranking on data manifolds"; Diaz 2005
for retrieval), which the cluster hypothesis justifies. It helps where several passages are relevant, and hurts where one is: a
question of few words asks for one as a rule, as does one whose best passage stands out.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NEIGHBORS = 3
"""Each passage's nearest ones that it shares with."""
Vectors = npt.NDArray[np.float32]


def scaled(scores: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From 0 for the last to 1 for the best; all 1 where they are equal."""
    values = np.asarray(scores, np.float64)
    spread = values.max() - values.min() if values.size else 0.0
    return (values - values.min()) / spread if spread > 0 else np.ones_like(values)


def diffused(
    scores: npt.NDArray[np.float64], vectors: Vectors, share: float, neighbors: int = NEIGHBORS
) -> npt.NDArray[np.float64]:
    """The scores, (n,), each with `share` (0 to below 1) of it from those that are like it; `vectors` (n, d) have length 1."""
    count = len(scores)
    if share <= 0 or count < 3:
        return scores
    likeness = np.maximum(vectors @ vectors.T, 0).astype(np.float64)
    np.fill_diagonal(likeness, 0)
    near = np.zeros_like(likeness, bool)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, : min(neighbors, count - 1)]
    np.put_along_axis(near, nearest, True, axis=1)
    likeness = np.where(near | near.T, likeness, 0)
    degrees = np.sqrt(likeness.sum(axis=1)) + 1e-9
    walk = likeness / np.outer(degrees, degrees)
    found: npt.NDArray[np.float64] = np.linalg.solve(np.eye(count) - share * walk, scores).astype(np.float64)
    return found
