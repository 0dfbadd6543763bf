"""Cuts text into sentences, as it streams in or whole. However the text is split into deltas, the sentences are the same.

A sentence ends at its full stop, question or exclamation mark or at a line's end, and takes the markers `[1]` that follow
with it. An end is only decided once what follows has been seen, which makes the result independent of the split.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.sources import Span

MAX_SENTENCE_CHARACTERS = 2_000
"""Longer ones are cut there: a model that never ends a sentence costs bounded work."""

MARKER = re.compile(r"\[\s{0,2}\d{1,3}(?:\s{0,2}[,;–-]\s{0,2}\d{1,3}){0,9}\s{0,2}\]")
"""`[1]`, `[1, 2]`, `[1-3]`."""

_MARKER_START = re.compile(r"\[[\d\s,;–-]*")
_LONGEST_MARKER, _LONGEST_BLANK = 96, 8
_STOP = re.compile(r"[.!?…]+[\"'”’»)]*|[。！？]+[」』”’）]*|\n")
_WIDE = "。！？"
_ABBREVIATION_WORDS = (
    "al approx cf co corp dr e.g eq etc fig figs i.e inc jr ltd mr mrs ms no nos p pp prof resp "
    "sec sr st u.k u.s vol vs"
)
_ABBREVIATIONS = frozenset(_ABBREVIATION_WORDS.split())
_WORD_BEFORE = re.compile(r"[\w.]*$")


@dataclass(frozen=True)
class Sentence:
    """A sentence and where it stands, without the white space around it."""

    text: str
    span: Span


class SentenceStream:
    """Gives the sentences of a text that comes in pieces."""

    def __init__(self) -> None:
        self._start = 0  # of the buffer, in the whole text
        self._buffer = ""
        self._scanned = 0  # no end lies before it

    def feed(self, delta: str) -> list[Sentence]:
        """The sentences that are complete with this piece."""
        self._buffer += delta
        return [sentence for sentence in self._cut_all() if sentence is not None]

    def close(self) -> list[Sentence]:
        """The rest, when the text has ended."""
        rest = self._take(len(self._buffer))
        return [rest] if rest is not None else []

    def _cut_all(self) -> Iterator[Sentence | None]:
        while (end := self._next_end()) is not None:
            yield self._take(end)

    def _next_end(self) -> int | None:
        """Where the sentence at the buffer's start ends; None while that is not known."""
        for stop in _STOP.finditer(self._buffer, self._scanned, MAX_SENTENCE_CHARACTERS):
            end = self._past_markers(stop.end())
            if end is None:
                self._scanned = stop.start()
                return None
            if end <= MAX_SENTENCE_CHARACTERS and self._ends_sentence(stop, end):
                return end
        self._scanned = min(len(self._buffer), MAX_SENTENCE_CHARACTERS)
        return MAX_SENTENCE_CHARACTERS if self._buffer_is_full() else None

    def _buffer_is_full(self) -> bool:
        """Whether no end up to the longest sentence can still be undecided."""
        return len(self._buffer) > MAX_SENTENCE_CHARACTERS + _LONGEST_MARKER + _LONGEST_BLANK

    def _past_markers(self, position: int) -> int | None:
        """The end of the markers that follow; None while a marker may still be on its way."""
        while True:
            bracket = position
            while self._buffer[bracket : bracket + 1] in (" ", "\t") and bracket < position + _LONGEST_BLANK:
                bracket += 1
            if bracket == position + _LONGEST_BLANK:
                return position
            if bracket == len(self._buffer):
                return None
            if marker := MARKER.match(self._buffer, bracket):
                position = marker.end()
                continue
            start = _MARKER_START.match(self._buffer, bracket)
            pending = start and start.end() == len(self._buffer) and len(start.group()) <= _LONGEST_MARKER
            return None if pending else position

    def _ends_sentence(self, stop: re.Match[str], end: int) -> bool:
        if stop.group() == "\n" or stop.group()[0] in _WIDE:
            return True
        if not self._buffer[end].isspace():
            return False
        if self._buffer[end : end + _LONGEST_BLANK].lstrip(" \t")[:1].islower():
            return False
        return not (stop.group() == "." and self._abbreviates(stop.start()))

    def _abbreviates(self, position: int) -> bool:
        """Whether the word before the full stop is an abbreviation, an initial, or the number of a list's line."""
        before = self._buffer[max(0, position - 12) : position]
        match = _WORD_BEFORE.search(before)
        word = match.group() if match else ""
        alone = self._buffer[:position].strip() == word
        initial = len(word) == 1 and word.isalpha() and word.isupper()
        return word.casefold() in _ABBREVIATIONS or initial or (alone and word.isdigit())

    def _take(self, end: int) -> Sentence | None:
        piece, start = self._buffer[:end], self._start
        self._buffer, self._start, self._scanned = self._buffer[end:], start + end, 0
        text = piece.strip()
        if not text:
            return None
        first = start + piece.index(text[0])
        return Sentence(text, Span(first, first + len(text)))


def split_sentences(text: str) -> list[Sentence]:
    """The sentences of a whole text, in order."""
    stream = SentenceStream()
    return [*stream.feed(text), *stream.close()]
