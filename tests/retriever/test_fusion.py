"""How two lists of scores become one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.stores import fusion

SCORES = st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1, 30), max_size=8)


@given(SCORES, SCORES, st.integers(0, 40))
def test_scores_lie_between_0_and_1_and_fall(dense: dict[str, float], sparse: dict[str, float], words: int) -> None:
    found = fusion.fused(dense, sparse, words)
    scores = [score for _, score in found]
    assert {key for key, _ in found} == dense.keys() | sparse.keys()
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_what_is_best_in_both_lists_scores_1() -> None:
    assert fusion.fused({"a": 0.9, "b": 0.1}, {"a": 12.0, "b": 3.0}, 8)[0] == ("a", 1.0)


def test_a_single_list_keeps_its_order() -> None:
    assert [key for key, _ in fusion.fused({"a": 0.1, "b": 0.3, "c": 0.2}, {}, 0)] == ["b", "c", "a"]
    assert [key for key, _ in fusion.fused({}, {"a": 1.0, "b": 2.0}, 3)] == ["b", "a"]
    assert fusion.fused({}, {}, 3) == []


def test_a_word_that_only_one_passage_has_finds_it_however_far_its_meaning_is() -> None:
    dense = {f"p{number:03d}": 1 - number / 100 for number in range(100)}
    assert fusion.fused(dense, {"p099": 7.0}, 1)[0][0] == "p099"
    common = {key: 7.0 - number / 20 for number, key in enumerate(reversed(list(dense)))}
    assert fusion.rarity(common) == 0
    assert fusion.fused(dense, common, 1)[0][0] == "p000"


def test_words_count_more_in_long_questions() -> None:
    """The same lists: a short question follows the meaning, a long one the words."""
    many = {f"p{number}": 5.0 for number in range(20)}
    dense, sparse = {"meaning": 0.9, "words": 0.5, "last": 0.0}, {"words": 9.0, "meaning": 1.0, "last": 0.0, **many}
    assert fusion.fused(dense, sparse, 2)[0][0] == "meaning"
    assert fusion.fused(dense, sparse, 20)[0][0] == "words"
    assert fusion.sparse_weight(2) < fusion.sparse_weight(7) < fusion.sparse_weight(20) == fusion.sparse_weight(30)


def test_only_long_questions_are_asked_again() -> None:
    assert fusion.feedback_weight(4) == 0 < fusion.feedback_weight(10)


def test_a_moved_question_lies_between_itself_and_its_hits() -> None:
    query, hits = [1.0, 0.0], [[0.0, 1.0], [0.0, 1.0]]
    moved = fusion.moved(query, hits, 0.5)
    assert np.linalg.norm(moved) == pytest.approx(1)
    assert moved.tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])
