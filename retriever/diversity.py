"""Passes over passages that say what better ones have said: maximal marginal relevance (Carbonell & Goldstein 1998)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from retriever.diffusion import Vectors, scaled


def diversified(scores: Sequence[float], vectors: Vectors, diversity: float, count: int) -> list[int]:
    """Which passages to take, in order, at most `count`.

    Each is the one with the most of (1 - diversity) · its score, brought to 0 to 1, less diversity · its greatest cosine with
    one that was taken before. `vectors` (n, d) have length 1.
    """
    relevance: npt.NDArray[np.float64] = scaled(scores)
    likeness = np.zeros(len(relevance))
    left, taken = np.ones(len(relevance), bool), list[int]()
    while len(taken) < count and left.any():
        gain = np.where(left, (1 - diversity) * relevance - diversity * likeness, -np.inf)
        best = int(np.argmax(gain))
        taken.append(best)
        left[best] = False
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return taken
