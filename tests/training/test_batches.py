"""Windows: every one once an epoch, documents told apart, the same whatever the number of processes."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidInput
from training.pretraining.batches import IGNORED, Windows, permuted
from training.pretraining.shards import Split


def split(*shards: list[int]) -> Split:
    starts = np.cumsum([0, *map(len, shards)])
    return Split(tuple(np.asarray(each, np.uint16) for each in shards), tuple(map(int, starts[:-1])), int(starts[-1]))


@given(count=st.integers(1, 500), key=st.integers(0, 2**64 - 1))
def test_a_permutation_hits_everything_once(count: int, key: int) -> None:
    assert sorted(permuted(place, count, key) for place in range(count)) == list(range(count))


@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6), start=st.integers(0, 20), count=st.integers(1, 20))
def test_a_stretch_over_several_shards_is_read_whole(cuts: list[int], start: int, count: int) -> None:
    whole = list(range(sum(cuts)))
    ends = np.cumsum([0, *cuts])
    parts = split(*(whole[a:b] for a, b in itertools.pairwise(ends)))
    if start + count <= len(whole):
        assert parts.read(start, count).tolist() == whole[start : start + count]


def test_each_window_comes_once_an_epoch_and_the_next_epoch_has_another_order() -> None:
    windows = Windows(split(list(range(1000))), 10, None, seed=3)
    first, second = (windows.dealt(epoch * windows.count, windows.count).inputs[:, 0] for epoch in (0, 1))
    assert len(set(first.tolist())) == windows.count
    assert len({int(each) % 10 for each in first}) == 1
    assert np.argsort(first).tolist() != np.argsort(second).tolist()


def test_labels_are_the_next_tokens_and_parts_are_the_whole() -> None:
    windows = Windows(split(list(range(300)), list(range(300, 400))), 16, None, seed=0)
    batch = windows.dealt(5, 4)
    assert (batch.labels == batch.inputs + 1).all()
    assert (np.concatenate([windows.dealt(5, 1).inputs, windows.dealt(6, 3).inputs]) == batch.inputs).all()


def test_documents_of_a_window_are_told_apart() -> None:
    batch = Windows(split([5, 6, 0, 7, 0, 8, 9, 4, 3]), 8, end_of_text_id=0, seed=0).spread(range(1), 1)
    assert batch.inputs.tolist() == [[5, 6, 0, 7, 0, 8, 9, 4]]
    assert batch.labels.tolist() == [[6, 0, IGNORED, 0, IGNORED, 9, 4, 3]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]


def test_evaluation_windows_are_spread_from_the_first_to_the_last() -> None:
    windows = Windows(split(list(range(101))), 10, None, seed=0)
    assert windows.spread(range(3), 3).inputs[:, 0].tolist() == [0, 45, 90]


def test_too_little_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has 10 tokens, too few for one sequence of 10"):
        Windows(split(list(range(10))), 10, None, seed=0)
