"""Which tokens each step trains on: windows of a split in an order that seed and step alone decide.

So a run goes on at any step, with any number of processes, and reads what an unbroken run would have read.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mesh.errors import InvalidInput
from training.pretraining.shards import Split

IGNORED = -100
"""The label of a position whose next token belongs to another document."""
_ROUNDS = 4
_MASK = (1 << 64) - 1

Int64s = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Batch:
    """(sequences, tokens) each: what is read, what is to be predicted, and each token's place in its own document."""

    inputs: Int64s
    labels: Int64s
    positions: Int64s


@dataclass(frozen=True)
class Windows:
    """Cuts a split into windows of `sequence_tokens`, and deals them out, each once an epoch.

    With `end_of_text_id` a window's documents are told apart: positions begin anew after each end, and no document's first
    token is to be predicted from another document. Without it (None) a window is one text.
    """

    split: Split
    sequence_tokens: int
    end_of_text_id: int | None
    seed: int

    def __post_init__(self) -> None:
        if self.split.tokens <= self.sequence_tokens:
            raise InvalidInput(
                f"The split has {self.split.tokens:,} tokens, too few for one sequence of {self.sequence_tokens:,} and the "
                "token after it. Take more text, or a smaller sequence_tokens.",
                field="sequence_tokens",
            )

    @property
    def count(self) -> int:
        """Windows an epoch. One is left out where there are several, so that each epoch can begin elsewhere."""
        return max(1, (self.split.tokens - 1) // self.sequence_tokens - 1)

    def dealt(self, first: int, count: int) -> Batch:
        """The sequences number `first` to `first + count` of all that are ever dealt."""
        return self._batch([self._start(number) for number in range(first, first + count)])

    def spread(self, numbers: range, of: int) -> Batch:
        """Some of `of` windows that are spread evenly over the split, always the same ones."""
        last = self.split.tokens - 1 - self.sequence_tokens
        return self._batch([number * last // max(1, of - 1) for number in numbers])

    def _start(self, number: int) -> int:
        epoch, place = divmod(number, self.count)
        key = _mixed(self.seed ^ _mixed(epoch + 1))
        slack = self.split.tokens - 1 - self.count * self.sequence_tokens
        return permuted(place, self.count, key) * self.sequence_tokens + key % (slack + 1)

    def _batch(self, starts: list[int]) -> Batch:
        tokens = np.stack([self.split.read(start, self.sequence_tokens + 1) for start in starts])
        inputs, labels = tokens[:, :-1], tokens[:, 1:]
        places = np.broadcast_to(np.arange(self.sequence_tokens, dtype=np.int64), inputs.shape)
        if self.end_of_text_id is None:
            return Batch(inputs, labels.copy(), places)
        ends = inputs == self.end_of_text_id
        begins = np.zeros_like(inputs)
        begins[:, 1:] = np.where(ends[:, :-1], places[:, 1:], 0)
        positions = places - np.maximum.accumulate(begins, axis=1)
        return Batch(inputs, np.where(ends, IGNORED, labels), positions)


def permuted(place: int, count: int, key: int) -> int:
    """Where a random permutation of `count` things puts number `place`, in no memory.

    A Feistel network over the next even number of bits; what falls outside is put through again ("cycle walking", Black and
    Rogaway 2002).
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = place >> half, place & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mixed(key + turn * 0x9E3779B97F4A7C15 + right) & low)
        place = left << half | right
        if place < count:
            return place


def _mixed(value: int) -> int:
    """The finalizer of splitmix64 (Steele et al. 2014)."""
    value &= _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
