"""How hits are ordered once more: diffusion, maximal marginal relevance, and both scores of a reranked search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.diffusion import Vectors, diffused, scaled
from retriever.diversity import diversified
from retriever.ordering import Reranking, Wish, blended
from retriever.reranking import Blend
from retriever.stores.base import Hit
from tests.retriever.fakes import chunk

NO_VECTORS = np.empty((0, 0), np.float32)


def unit(rows: list[list[float]]) -> Vectors:
    values = np.asarray(rows, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def drawn(count: int) -> Vectors:
    return unit(np.random.default_rng(count).standard_normal((count, 4)).tolist())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 0.9))
def test_diffused_scores_stay_finite_and_are_as_many(scores: list[float], share: float) -> None:
    found = diffused(np.asarray(scores), drawn(len(scores)), share)
    assert found.shape == (len(scores),)
    assert np.isfinite(found).all()
    assert (found >= -1e-9).all()


def test_without_a_share_nothing_is_diffused() -> None:
    scores = np.asarray([1.0, 0.2, 0.1, 0.0])
    assert diffused(scores, drawn(4), 0.0).tolist() == scores.tolist()


def test_a_passage_gains_from_good_ones_that_are_like_it() -> None:
    vectors = unit([[1, 0, 0], [1, 0.1, 0], [1, 0, 0.1], [0, 1, 1], [0, 1, 0.9], [0, 0.9, 1]])
    scores = np.asarray([1.0, 0.9, 0.3, 0.35, 0.0, 0.0])
    found = diffused(scores, vectors, 0.5, neighbors=2)
    assert scores[2] < scores[3]
    assert found[2] > found[3]


@given(st.lists(st.floats(-5, 30), max_size=8))
def test_scaled_scores_lie_between_0_and_1(scores: list[float]) -> None:
    found = scaled(scores)
    assert all(0 <= score <= 1 for score in found)
    assert not scores or found.max() == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.floats(0, 1), st.integers(1, 12))
def test_each_passage_is_taken_once_and_the_best_first(scores: list[float], diversity: float, count: int) -> None:
    taken = diversified(scores, drawn(len(scores)), diversity, count)
    assert len(taken) == len(set(taken)) == min(count, len(scores))
    if diversity < 1:
        assert scores[taken[0]] == pytest.approx(max(scores))


def test_without_diversity_the_order_is_that_of_the_scores() -> None:
    assert diversified([0.1, 0.9, 0.5], drawn(3), 0.0, 3) == [1, 2, 0]


def test_a_near_duplicate_comes_after_another_passage() -> None:
    vectors = unit([[1, 0], [1, 0.01], [0, 1]])
    assert diversified([1.0, 0.95, 0.5], vectors, 0.0, 2) == [0, 1]
    assert diversified([1.0, 0.95, 0.5], vectors, 0.5, 2) == [0, 2]


def test_hits_follow_the_reranker_or_both_scores() -> None:
    hits = [Hit(chunk(f"text {row}", index=row), score, None) for row, score in enumerate([0.9, 0.8, 0.1])]
    order = [hit.chunk.index for hit in blended(hits, [1.0, 2.0, 3.0], Blend(), 0.0, NO_VECTORS)]
    assert order == [2, 1, 0]
    order = [hit.chunk.index for hit in blended(hits, [1.0, 2.0, 2.1], Blend(search_weight=0.5), 0.0, NO_VECTORS)]
    assert order == [1, 2, 0]
    assert blended([], [], Blend(), 0.0, NO_VECTORS) == []


def test_enough_is_asked_for() -> None:
    assert Wish(10).candidates == 10
    assert Wish(10, reranking=Reranking(passages=30)).candidates == 30
    assert Wish(100, reranking=Reranking(passages=30)).candidates == 100
    assert Wish(10, diversity=0.3).candidates == 50
    assert Wish(100, diversity=0.3).candidates == 200
    assert Wish(1_000, diversity=0.3).candidates == 1_000
