"""Decides whether what was found can answer the question, and whether the model itself says that it cannot.

Thresholds were calibrated with all-MiniLM-L6-v2 on one half of SQuAD 2.0's questions (tests/orchestrator/README.md has the
figures). They tell a question about the documents from one about something else. They cannot tell a question that is
about the documents and that no document answers.
"""

import re
from collections.abc import Sequence

from orchestrator.sources import Passage
from orchestrator.words import coverage, stems

LEXICAL_WEIGHT = 0.5
"""How much all of a question's words in one passage add to the cosine."""

_UNKNOWN = re.compile(
    r"\b(?:i|we) (?:do not|don't|don’t|cannot|can't|can’t) (?:know|answer|tell|find)"
    r"|\b(?:sources?|texts?|passages?|documents?|context) (?:do|does) (?:not|n't) "
    r"(?:\w+ ){0,2}?(?:say|tell|mention|contain|provide|specify|state|include|give|answer)"
    r"|\b(?:sources?|texts?|passages?|documents?|context) (?:doesn't|doesn’t|don't|don’t) "
    r"|\b(?:is|are|was) not (?:\w+ )?(?:mentioned|specified|provided|stated|given) in the"
    r"|\bno (?:information|mention) (?:about|on|of|is|regarding)",
    re.IGNORECASE,
)


def relevance(text: str, passage: Passage) -> float:
    """How well a passage fits the search text: its cosine plus the weighted share of the text's words in it.

    Without a cosine the share alone counts, from 0 to 1.
    """
    chunk = passage.chunk
    share = coverage(stems(text), stems(" ".join((chunk.display_name, *chunk.headings, chunk.text))))
    return share if passage.dense_score is None else passage.dense_score + LEXICAL_WEIGHT * share


def is_relevant(text: str, passages: Sequence[Passage], minimum_relevance: float) -> bool:
    """Whether the best of the passages reaches the minimum."""
    return any(relevance(text, passage) >= minimum_relevance for passage in passages)


def admits_not_knowing(words: str) -> bool:
    """Whether a sentence of the model's says that the sources do not tell."""
    return _UNKNOWN.search(words) is not None
