"""How dense and sparse results become one list, the same in both stores.

Each list is brought to 0 to 1 between its last and its best score, and the two are added (a convex combination; Bruch et al.
2023 find it better than reciprocal ranks). Of a question of few words, BM25 tells little: its weight grows with the number
of words; and the more its first few passages stand out from the next, the more it counts: a word that only a few have, such as
a number or a name, counts more than any cosine. Longer questions are asked a second time, moved towards the embeddings of the
first hits (Rocchio's feedback from hits that are taken for relevant; Li et al. 2021), which finds what is like them without
sharing the question's words.

nDCG@10 with all-MiniLM-L6-v2, chosen on the calibration halves of the questions, here the held-out ones (all); "before", BM25
counted more from a larger distance on:

             dense         BM25          before        this
Cranfield    .439 (.424)   .426 (.424)   .497 (.480)   .494 (.479)
Medline      .816 (.798)   .696 (.694)   .823 (.802)   .825 (.806)
CoSQA        .587 (.588)   .381 (.367)   .596 (.596)   .598 (.597)
squad2-half  .819 (.818)   .908 (.911)   .903 (.904)   .920 (.918)
HotpotQA     .802 (.804)   .793 (.792)   .849 (.839)   .852 (.841)
CovidQA      .697 (.709)   .822 (.831)   .748 (.759)   .761 (.772)
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key", str, int)
"""Of a chunk: its id, or the number that it is."""
Vector = npt.NDArray[np.float32]

MIN_CANDIDATES = 100
FEEDBACK_PASSAGES = 3
_LEAST_WEIGHT, _MOST_WEIGHT, _FEW_WORDS, _MANY_WORDS = 0.25, 0.7, 4, 10
_RARE_WEIGHT, _FEW_PASSAGES, _COMMON_DROP = 1.2, 10, 0.4
_FEEDBACK_WEIGHT, _FEEDBACK_FROM_WORDS = 1.0, 6


def candidates(limit: int) -> int:
    """Results of each kind that are fused for an answer of `limit`."""
    return max(MIN_CANDIDATES, 2 * limit)


def sparse_weight(words: int) -> float:
    """What BM25 counts, where the cosine counts 1, in a question of so many different words."""
    return _LEAST_WEIGHT + (_MOST_WEIGHT - _LEAST_WEIGHT) * between(words, _FEW_WORDS, _MANY_WORDS)


def rarity(sparse: Mapping[Key, float]) -> float:
    """0 to 1: how far BM25's scores fall behind the first few passages, as they do after a word that only those have."""
    ordered = sorted(sparse.values(), reverse=True)
    if not ordered or ordered[0] <= 0:
        return 0.0
    next_score = ordered[_FEW_PASSAGES] if len(ordered) > _FEW_PASSAGES else 0.0
    return between(1 - next_score / ordered[0], _COMMON_DROP, 1)


def feedback_weight(words: int) -> float:
    """How far the question is moved to its first hits; 0: it is asked once."""
    return _FEEDBACK_WEIGHT * between(words, _FEEDBACK_FROM_WORDS, _MANY_WORDS)


def fused(dense: Mapping[Key, float], sparse: Mapping[Key, float], words: int) -> list[tuple[Key, float]]:
    """Ids with scores from 0 to 1, the best first. Equal scores in the order of ids, so that a page never changes by chance."""
    usual = sparse_weight(words) if sparse else 0.0
    weight = usual + (_RARE_WEIGHT - usual) * rarity(sparse)
    left, right = _scaled(dense), _scaled(sparse)
    found = {key: (left.get(key, 0.0) + weight * right.get(key, 0.0)) / (1 + weight) for key in {**left, **right}}
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def moved(query: Sequence[float], hits: Sequence[Sequence[float]], weight: float) -> Vector:
    """The question's vector, moved towards the mean of its first hits; of length 1."""
    vector = np.asarray(query, np.float32) + weight * np.asarray(hits, np.float32).mean(axis=0)
    return vector / np.linalg.norm(vector)


def _scaled(scores: Mapping[Key, float]) -> dict[Key, float]:
    """0 for the last, 1 for the best; all 1 where they are equal."""
    if not scores:
        return {}
    lowest, highest = min(scores.values()), max(scores.values())
    if highest <= lowest:
        return dict.fromkeys(scores, 1.0)
    return {key: (score - lowest) / (highest - lowest) for key, score in scores.items()}


def between(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, and even between them."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
