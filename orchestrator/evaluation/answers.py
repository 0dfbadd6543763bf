"""Measures one answer: is it right, is it declined where it should be, do its citations hold, how long did it take."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.evaluation import squad
from orchestrator.evaluation.clients.answers import Heard
from orchestrator.evaluation.clients.searches import Finds
from orchestrator.evaluation.pacing import patiently
from orchestrator.evaluation.records import Record
from orchestrator.evaluation.retrieval import SHOWN_CHARACTERS, SHOWN_PASSAGES, gold_names
from orchestrator.evaluation.sets import Question, document_id
from orchestrator.evaluation.support import SUPPORTED, CitedSentence, cited_sentences, supports
from orchestrator.events import Citation
from orchestrator.ports import Documents
from orchestrator.relevance import relevance
from orchestrator.sentences import MARKER


class Answers(Protocol):
    """Answers questions."""

    async def ask(self, text: str, documents: Sequence[str] = ()) -> Heard:
        """The whole answer, from the documents of these display names where any are given."""
        ...


class AnswerMeasure:
    """Measures answers from one collection.

    `names` are the display names of its documents by corpus id. With `gold_documents` a question is only asked of the
    documents that the set judges relevant: what the model could say if retrieval were perfect.
    """

    def __init__(
        self, answers: Answers, searches: Finds, texts: Documents, names: Mapping[str, str], *, gold_documents: bool
    ) -> None:
        self._answers, self._searches, self._texts, self._names = answers, searches, texts, names
        self._gold_documents = gold_documents

    async def __call__(self, question: Question) -> tuple[Record, dict[str, str]]:
        """The record of a question, and the versions of index, prompt and model."""
        only = gold_names(question, self._names) if self._gold_documents else []
        heard = await patiently(lambda: self._answers.ask(question.text, only))
        found = await patiently(lambda: self._searches.search(question.text, only))
        stands = [await patiently(lambda c=citation: self._stands(c)) for citation in heard.citations]
        sentences = [] if heard.declined else cited_sentences(heard.text, heard.citations, _texts(heard))
        scores = {
            **_rightness(question, heard.text, heard.declined),
            **_citation_scores(heard, stands),
            **_sentence_scores(sentences),
            "relevance": max((relevance(question.text, passage) for passage in found.passages), default=0.0),
            "source_recall": self._source_recall(question, heard),
            "prompt_tokens": heard.prompt_tokens,
            "completion_tokens": heard.completion_tokens,
            "first_token_ms": round(heard.first_token_s * 1000, 1),
            "total_ms": round(heard.total_s * 1000, 1),
        }
        return Record(
            question.id, question.text, scores, self._shown(question, heard, stands, sentences)
        ), heard.versions

    async def _stands(self, citation: Citation) -> bool:
        stored = await self._texts.text(citation.document, citation.version, citation.span)
        return stored is not None and stored.text == citation.quote

    def _source_recall(self, question: Question, heard: Heard) -> float | None:
        """The share of the relevant documents that were among the sources."""
        relevant = {document for document, grade in question.relevant.items() if grade >= 1}
        seen = {document_id(source.display_name, self._names.keys()) for source in heard.sources}
        return len(relevant & seen) / len(relevant) if relevant else None

    def _shown(
        self, question: Question, heard: Heard, stands: Sequence[bool], sentences: Sequence[CitedSentence]
    ) -> dict[str, Any]:
        return {
            "answer": heard.text,
            "declined": heard.declined,
            "answers": list(question.answers),
            "answerable": question.answerable,
            "sentences": [
                {"words": one.words, "cited": one.is_cited, "groundedness": round(one.groundedness, 3)}
                for one in sentences
            ],
            "citations": [
                {
                    "marker": citation.marker,
                    "document": document_id(citation.display_name, self._names.keys()),
                    "quote": citation.quote[:SHOWN_CHARACTERS],
                    "stands": stood,
                    "supports": supports(citation, heard.text),
                }
                for citation, stood in zip(heard.citations, stands, strict=True)
            ],
            "passages": [
                self._source(question, number, heard) for number in range(len(heard.sources[:SHOWN_PASSAGES]))
            ],
        }

    def _source(self, question: Question, place: int, heard: Heard) -> dict[str, Any]:
        source = heard.sources[place]
        document = document_id(source.display_name, self._names.keys())
        return {
            "document": document,
            "relevant": question.relevant.get(document, 0) >= 1,
            "page": source.page,
            "score": round(source.score, 4),
            "text": source.text[:SHOWN_CHARACTERS],
        }


def failed_answer(question: Question, error: str) -> Record:
    """The record of a question that got no answer: nothing right was said, and nothing declined."""
    scores = _rightness(question, "", False)
    if question.answerable is not None:
        scores["abstained_rightly"] = 0.0
    return Record(question.id, question.text, scores, {"answers": list(question.answers)}, error)


def _rightness(question: Question, text: str, declined: bool) -> dict[str, float | None]:
    """SQuAD's scores. Over all questions by SQuAD 2.0's rule: to decline is the answer to what cannot be answered."""
    words = "" if declined else MARKER.sub(" ", text)
    scores: dict[str, float | None] = {"declined": float(declined)}
    if question.answers:
        scores["em"] = squad.exact_match(words, question.answers) if words else 0.0
        scores["f1"] = squad.f1(words, question.answers) if words else 0.0
        scores["contains"] = squad.contains(words, question.answers)
    if question.answerable is not None:
        scores["answerable"] = float(question.answerable)
        scores["abstained_rightly"] = float(declined != question.answerable)
        scores["em_all"] = scores["em"] if question.answerable else float(declined)
        scores["f1_all"] = scores["f1"] if question.answerable else float(declined)
    return scores


def _citation_scores(heard: Heard, stands: Sequence[bool]) -> dict[str, float | None]:
    supported = [supports(citation, heard.text) for citation in heard.citations]
    return {
        "citations": len(stands),
        "citations_standing": sum(stands),
        "citations_supporting": sum(stood and good for stood, good in zip(stands, supported, strict=True)),
    }


def _sentence_scores(sentences: Sequence[CitedSentence]) -> dict[str, float | None]:
    total = sum(sentence.groundedness for sentence in sentences)
    return {
        "sentences": len(sentences),
        "sentences_cited": sum(sentence.is_cited for sentence in sentences),
        "sentences_grounded": sum(sentence.groundedness >= SUPPORTED for sentence in sentences),
        "support": total,
        "groundedness": total / len(sentences) if sentences else None,
    }


def _texts(heard: Heard) -> list[str]:
    return [source.text for source in heard.sources]


def known_names(documents: Collection[str], wanted: frozenset[str]) -> dict[str, str]:
    """Display names of a collection's documents by the corpus ids that they stand for."""
    return {document_id(name, wanted): name for name in documents}
