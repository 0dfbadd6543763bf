"""Exact match and F1 as SQuAD scores them (Rajpurkar et al. 2016, 2018: the official evaluation script's rules)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Lower case, without punctuation and English articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(said: str, answers: Sequence[str]) -> float:
    """1 when the text is one of the answers after normalisation, else 0. No answers stand for the empty one."""
    return float(any(normalized(said) == normalized(answer) for answer in answers or ("",)))


def f1(said: str, answers: Sequence[str]) -> float:
    """The best harmonic mean of precision and recall of words, 0 to 1. No answers stand for the empty one."""
    return max(_word_f1(said, answer) for answer in answers or ("",))


def contains(said: str, answers: Sequence[str]) -> float:
    """1 when one of the answers stands in the text word for word, after normalisation, else 0."""
    words = f" {normalized(said)} "
    return float(any(f" {answer} " in words for answer in map(normalized, answers) if answer))


def _word_f1(said: str, answer: str) -> float:
    said_words, right_words = normalized(said).split(), normalized(answer).split()
    if not said_words or not right_words:
        return float(said_words == right_words)
    shared = sum((Counter(said_words) & Counter(right_words)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(said_words), shared / len(right_words)
    return 2 * precision * recall / (precision + recall)
