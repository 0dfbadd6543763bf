"""Measures one question's ranking. A document's rank is that of its best passage."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.evaluation.clients.searches import Finds
from orchestrator.evaluation.pacing import patiently
from orchestrator.evaluation.rankings import ranking_scores
from orchestrator.evaluation.records import Record
from orchestrator.evaluation.sets import Question, document_id
from orchestrator.evaluation.squad import contains
from orchestrator.sources import Passage

SHOWN_PASSAGES = 5
SHOWN_CHARACTERS = 1_200
ANSWER_WITHIN = 10
"""Passages among which one should hold an answer."""


class RetrievalMeasure:
    """Measures questions against one collection.

    `names` are the display names of its documents by corpus id. With `gold_documents` a question is only searched for in the
    documents that the set judges relevant: how well the right place of a long document is found.
    """

    def __init__(self, searches: Finds, names: Mapping[str, str], *, gold_documents: bool = False) -> None:
        self._searches, self._names, self._known = searches, names, frozenset(names)
        self._gold_documents = gold_documents

    async def __call__(self, question: Question) -> tuple[Record, dict[str, str]]:
        """The record of a question, and the version of the index."""
        only = gold_names(question, self._names) if self._gold_documents else []
        found = await patiently(lambda: self._searches.search(question.text, only))
        documents = [document_id(passage.chunk.display_name, self._known) for passage in found.passages]
        ranking = list(dict.fromkeys(documents))
        scores: dict[str, float | None] = {**ranking_scores(question.relevant, ranking)}
        if question.answers:
            scores["answer@10"] = _holds_answer(question, found.passages[:ANSWER_WITHIN])
        scores["search_ms"] = round(found.seconds * 1000, 2)
        shown = {"ranks": _ranks(question, ranking), "passages": _shown(question, documents, found.passages)}
        return Record(question.id, question.text, scores, shown), {"index": found.index}


def gold_names(question: Question, names: Mapping[str, str]) -> list[str]:
    """The display names of the documents that are judged relevant."""
    relevant = [document for document, grade in question.relevant.items() if grade >= 1]
    return [names.get(document, document) for document in relevant]


def failed_ranking(question: Question, error: str) -> Record:
    """The record of a question whose search failed: nothing was found."""
    scores: dict[str, float | None] = {**ranking_scores(question.relevant, [])}
    if question.answers:
        scores["answer@10"] = 0.0
    return Record(question.id, question.text, scores, error=error)


def _holds_answer(question: Question, passages: Sequence[Passage]) -> float:
    return max((contains(passage.chunk.text, question.answers) for passage in passages), default=0.0)


def _ranks(question: Question, ranking: Sequence[str]) -> dict[str, int | None]:
    """Where the relevant documents came, from 1; None for those that did not."""
    places = {document: place for place, document in enumerate(ranking, 1)}
    relevant = [document for document, grade in question.relevant.items() if grade >= 1]
    return {document: places.get(document) for document in relevant[:20]}


def _shown(question: Question, documents: Sequence[str], passages: Sequence[Passage]) -> list[dict[str, Any]]:
    return [
        {
            "document": document,
            "relevant": question.relevant.get(document, 0) >= 1,
            "page": passage.chunk.page,
            "score": round(passage.score, 4),
            "text": passage.chunk.text[:SHOWN_CHARACTERS],
        }
        for document, passage in zip(documents[:SHOWN_PASSAGES], passages, strict=False)
    ]
