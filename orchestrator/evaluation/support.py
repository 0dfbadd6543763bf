"""How well words support a statement: the share of its content words that they hold.

This is K-Precision (Adlakha et al. 2023, "Evaluating Correctness and Faithfulness of Instruction-Following Models for
Question Answering") on stems, with one rule more: a number that the statement names must stand in the words. It needs no
model and judges apart from the one that the orchestrator cites by. Paraphrases and other languages score low.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from orchestrator.events import Citation
from orchestrator.markers import Statement, read_statement
from orchestrator.relevance import admits_not_knowing
from orchestrator.sentences import MARKER, split_sentences
from orchestrator.words import coverage, stems

SUPPORTED = 0.5
"""The share from which a statement counts as supported."""

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_stems = lru_cache(maxsize=4096)(stems)
"""The sentences of the sources are held against every sentence of an answer."""


@dataclass(frozen=True)
class CitedSentence:
    """A sentence of an answer: its words, whether a citation belongs to it, and how well the sources support it, 0 to 1."""

    words: str
    is_cited: bool
    groundedness: float


def support(statement: str, text: str) -> float:
    """The share of a statement's content words in a text, 0 to 1; 0 when a number of the statement's is not there."""
    wanted = _stems(statement)
    if not wanted:
        return 1.0
    if not set(_NUMBER.findall(statement)) <= set(_NUMBER.findall(text)):
        return 0.0
    return coverage(wanted, _stems(text))


def groundedness(statement: str, sources: Sequence[str]) -> float:
    """The best support that any two neighbouring sentences of the sources give, 0 to 1."""
    windows = (window for source in sources for window in _windows(source))
    return max((support(statement, window) for window in windows), default=0.0)


def cited_sentences(answer: str, citations: Sequence[Citation], sources: Sequence[str]) -> list[CitedSentence]:
    """The sentences of an answer that state something; those that say that the sources do not tell are left out."""
    return [
        CitedSentence(
            statement.words,
            any(_overlap(statement, citation) for citation in citations),
            groundedness(statement.words, sources),
        )
        for statement in map(read_statement, split_sentences(answer))
        if stems(statement.words) and not admits_not_knowing(statement.words)
    ]


def supports(citation: Citation, answer: str) -> bool:
    """Whether a citation's quote supports the part of the answer that it was given for."""
    part = answer[citation.answer_span.start : citation.answer_span.end]
    return support(MARKER.sub(" ", part), citation.quote) >= SUPPORTED


def _windows(source: str) -> Iterator[str]:
    sentences = [sentence.text for sentence in split_sentences(source)]
    yield from (f"{first} {second}" for first, second in pairwise(sentences))
    if len(sentences) == 1:
        yield sentences[0]


def _overlap(statement: Statement, citation: Citation) -> bool:
    part = citation.answer_span
    return part.start < statement.span.end and statement.span.start < part.end
