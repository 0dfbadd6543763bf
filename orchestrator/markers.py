"""The markers `[n]` that a model sets, and the sentences of its answer with them taken out."""

import re
from dataclasses import dataclass

from orchestrator.sentences import MARKER, Sentence
from orchestrator.sources import Span

_SEPARATOR = re.compile(r"\s*[,;]\s*")
_RANGE = re.compile(r"(\d+)\s*[–-]\s*(\d+)")
_LONGEST_RANGE = 20


@dataclass(frozen=True)
class Statement:
    """A sentence of the answer: its words without markers, where it stands, and the numbers of its markers, each once."""

    words: str
    span: Span
    markers: tuple[int, ...]


def read_statement(sentence: Sentence) -> Statement:
    """Takes the markers out of a sentence."""
    numbers = [number for marker in MARKER.findall(sentence.text) for number in marker_numbers(marker)]
    words = " ".join(MARKER.sub(" ", sentence.text).split())
    return Statement(words, sentence.span, tuple(dict.fromkeys(numbers)))


def marker_numbers(marker: str) -> list[int]:
    """`[1, 3-5]` -> 1, 3, 4, 5. A range that runs backwards or is very long counts as its two ends."""
    numbers: list[int] = []
    for part in _SEPARATOR.split(marker.strip("[]").strip()):
        if pair := _RANGE.fullmatch(part):
            first, last = int(pair[1]), int(pair[2])
            numbers += range(first, last + 1) if 0 <= last - first <= _LONGEST_RANGE else (first, last)
        else:
            numbers += [int(number) for number in re.findall(r"\d+", part)]
    return numbers
