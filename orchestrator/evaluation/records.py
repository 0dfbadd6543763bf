"""What a run keeps of one question, and the figures that many of them give together."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.evaluation import abstention
from orchestrator.evaluation.sets import Question


class Kind(StrEnum):
    """What is evaluated."""

    RETRIEVAL = "retrieval"
    ANSWERS = "answers"


MAIN_SCORE = {Kind.RETRIEVAL: "ndcg@10", Kind.ANSWERS: "f1_all"}
"""The score by which queries are called worst."""
COMPARED = {
    Kind.RETRIEVAL: ("ndcg@10", "recall@100", "mrr@10", "map", "ndcg_binary@10", "answer@10"),
    Kind.ANSWERS: ("f1_all", "f1", "em", "contains", "abstained_rightly", "groundedness"),
}
"""Scores that two runs are compared by; more is better in each."""
SIGNALS = ("relevance", "groundedness")
"""What a threshold for declining could be set on."""

_RANKING = (
    "ndcg@10",
    "recall@100",
    "mrr@10",
    "map",
    "ndcg_binary@10",
    "recall@5",
    "recall@10",
    "complete@5",
    "complete@10",
)
_RETRIEVAL = ("queries", *_RANKING, "answer@10", "search_ms_p50", "search_ms_p95", "failed")
_RIGHTNESS = ("f1", "em", "contains")
_SQUAD2 = ("f1_all", "em_all")
_ABSTENTION = ("abstention_precision", "abstention_recall", "abstention_f1")
_ANSWERS = (
    "queries", *_RIGHTNESS, *_SQUAD2, "declined", *_ABSTENTION, "citations", "citation_verified", "citation_precision",
    "citation_coverage", "groundedness", "grounded_sentences", "source_recall", "prompt_tokens", "completion_tokens",
    "first_token_ms_p50", "first_token_ms_p95", "total_ms_p50", "total_ms_p95", "failed",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One question of a run: its scores, where None is what cannot be told, and what a report shows of it.

    `error` says why it could not be measured; such a question scores as one that found or said nothing right.
    """

    query: str
    question: str
    scores: Mapping[str, float | None]
    shown: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """The record as it is stored."""
        return asdict(self)


def measurable(kind: Kind, questions: Sequence[Question]) -> list[str]:
    """The figures that a run over these questions can have."""
    if kind is Kind.RETRIEVAL:
        return [name for name in _RETRIEVAL if name != "answer@10" or any(q.answers for q in questions)]
    absent: set[str] = set()
    if not any(question.answers for question in questions):
        absent |= {*_RIGHTNESS}
    if all(question.answerable is None for question in questions):
        absent |= {*_SQUAD2, "abstention_precision"}
    if not any(question.answerable is False for question in questions):
        absent |= {"abstention_recall", "abstention_f1"}
    if not any(question.is_judged for question in questions):
        absent.add("source_recall")
    return [name for name in _ANSWERS if name not in absent]


def figures(kind: Kind, records: Sequence[Record]) -> dict[str, float | None]:
    """All figures of a run; None where its questions do not tell."""
    made = _retrieval_figures if kind is Kind.RETRIEVAL else _answer_figures
    names = _RETRIEVAL if kind is Kind.RETRIEVAL else _ANSWERS
    found = {"queries": len(records), "failed": sum(bool(record.error) for record in records)} | made(records)
    return {name: found[name] for name in names}


def curves(kind: Kind, records: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    """For each signal, what declining below a threshold would have given. Empty where nothing is unanswerable."""
    if kind is Kind.RETRIEVAL or not any(record.scores.get("answerable") == 0 for record in records):
        return {}
    return {signal: [asdict(point) for point in abstention.curve(_verdicts(records, signal))] for signal in SIGNALS}


def best_threshold(curve: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The point of a stored curve with the highest F1 of declines."""
    return max(curve, key=lambda point: point["rates"]["f1"] or 0, default=None)


def _retrieval_figures(records: Sequence[Record]) -> dict[str, float | None]:
    found = {name: mean(_values(records, name)) for name in (*_RANKING, "answer@10")}
    return found | _percentiles(records, "search_ms")


def _answer_figures(records: Sequence[Record]) -> dict[str, float | None]:
    def total(name: str) -> float:
        return sum(_values(records, name))

    means = (*_RIGHTNESS, *_SQUAD2, "declined", "source_recall", "prompt_tokens", "completion_tokens")
    declines = abstention.rates(_verdicts(records))
    return {
        **{name: mean(_values(records, name)) for name in means},
        "abstention_precision": declines.precision,
        "abstention_recall": declines.recall,
        "abstention_f1": declines.f1,
        "citations": total("citations"),
        "citation_verified": ratio(total("citations_standing"), total("citations")),
        "citation_precision": ratio(total("citations_supporting"), total("citations")),
        "citation_coverage": ratio(total("sentences_cited"), total("sentences")),
        "groundedness": ratio(total("support"), total("sentences")),
        "grounded_sentences": ratio(total("sentences_grounded"), total("sentences")),
        **_percentiles(records, "first_token_ms"),
        **_percentiles(records, "total_ms"),
    }


def _verdicts(records: Sequence[Record], signal: str = "") -> list[abstention.Verdict]:
    """Of the questions of which the set tells whether they can be answered; an unknown signal is the lowest."""
    return [
        abstention.Verdict(
            answerable=scores["answerable"] == 1,
            declined=scores["declined"] == 1,
            f1=scores["f1_all"] or 0.0,
            signal=scores.get(signal) or 0.0,
        )
        for scores in (record.scores for record in records)
        if scores.get("answerable") is not None
    ]


def mean(values: Iterable[float]) -> float | None:
    """None of nothing."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None


def ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to divide by."""
    return part / whole if whole else None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else None


def _percentiles(records: Sequence[Record], name: str) -> dict[str, float | None]:
    values = _values(records, name)
    return {f"{name}_p{percent}": percentile(values, percent) for percent in (50, 95)}


def _values(records: Iterable[Record], name: str) -> list[float]:
    return [value for record in records if (value := record.scores.get(name)) is not None]
