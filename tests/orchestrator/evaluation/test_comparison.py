"""Two runs, query by query."""

import random

import pytest

from orchestrator.evaluation.comparison import compare, interval


def test_wins_losses_and_ties_of_the_shared_queries() -> None:
    before = {"a": 0.5, "b": 0.5, "c": 0.5, "d": None, "e": 0.1}
    now = {"a": 0.7, "b": 0.4, "c": 0.5, "d": 0.9, "f": 1.0}
    found = compare("ndcg@10", before, now)
    assert found is not None
    assert (found.wins, found.losses, found.ties) == (1, 1, 1)
    assert [difference.query for difference in found.differences] == ["a", "b", "c"]
    assert found.gain == pytest.approx(0.1 / 3)
    assert found.low <= found.gain <= found.high
    assert found.verdict == "no clear difference"
    assert compare("ndcg@10", before, {"z": 1.0}) is None


def test_the_interval_is_that_of_the_mean() -> None:
    draw = random.Random(1)
    gains = [draw.gauss(0.05, 0.2) for _ in range(400)]
    mean = sum(gains) / len(gains)
    low, high = interval(gains)
    by_normal_law = 1.96 * 0.2 / 400**0.5
    assert low == pytest.approx(mean - by_normal_law, abs=0.004)
    assert high == pytest.approx(mean + by_normal_law, abs=0.004)
    assert interval(gains) == (low, high)


def test_a_clear_difference_is_called_one() -> None:
    before = {str(number): 0.4 for number in range(50)}
    better = {query: 0.5 + 0.001 * int(query) for query in before}
    up, down = compare("f1", before, better), compare("f1", better, before)
    assert up is not None
    assert up.verdict == "better"
    assert down is not None
    assert down.verdict == "worse"
    same = compare("f1", before, before)
    assert same is not None
    assert (same.low, same.high, same.ties) == (0, 0, 50)
