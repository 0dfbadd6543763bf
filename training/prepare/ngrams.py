"""Runs of n words of a text as numbers, alike wherever case, digits, punctuation and accents are all that differs."""

from collections.abc import Sequence

import numpy as np
from datatrove.utils.text import TextNormConfig, simplify_text
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from training.prepare.words import Words

_PLAIN, _ACCENTED = TextNormConfig(norm_unicode_diacritics=False), TextNormConfig()
_FACTOR = 0x9E3779B97F4A7C15
"""Odd: multiplying by it loses nothing of 64 bits (Knuth's multiplicative hashing)."""
_WORDS = Words()


def normal_words(text: str) -> list[str]:
    """Its words, normalized as datatrove's deduplication does it."""
    return _WORDS.word_tokenize(simplify_text(text, _PLAIN if text.isascii() else _ACCENTED))


def word_hashes(words: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each word."""
    known = {word: xxh3_64_intdigest(word.encode()) for word in set(words)}
    return np.fromiter(map(known.__getitem__, words), dtype=np.uint64, count=len(words))


def runs_of(single: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """One number for each run of `n` words, by a polynomial over the words' hashes; none for fewer words."""
    count = len(single) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    runs = np.zeros(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for place in range(n):
            runs = runs * np.uint64(_FACTOR) + single[place : place + count]
            runs ^= runs >> np.uint64(29)
    return runs


def hashed(words: Sequence[str], n: int) -> NDArray[np.uint64]:
    """One number for each run of `n` of the words."""
    return runs_of(word_hashes(words), n)
