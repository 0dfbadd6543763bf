"""Finds the threshold below which questions are declined, for a team's own documents and embedder.

It is chosen on one half of the questions, told by their ids, and what it does is reported on the other half. Only searches are
needed, no model. The rule: the highest threshold that still lets a wanted share of the answerable questions be answered. A
threshold that maximises the F1 of declines would decline nearly all where most questions cannot be answered.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.errors import InvalidInput
from orchestrator.evaluation.abstention import Point, Verdict, curve, outcome_at
from orchestrator.evaluation.clients.mesh import live_mesh
from orchestrator.evaluation.clients.searches import Finds, Searches
from orchestrator.evaluation.pacing import for_each, patiently
from orchestrator.evaluation.running import RELEVANCE_PASSAGES, Prepared, Shows, ready_collection
from orchestrator.evaluation.sets import Part, Question
from orchestrator.relevance import relevance

LEAST_QUESTIONS = 20
"""Answerable ones of the half that the threshold is chosen on: fewer cannot tell a share of 95 %."""
_DIGITS = 1_000


@dataclass(frozen=True)
class Calibration:
    """A threshold, how it was chosen and what it does to questions that had no part in that.

    `questions` are the answerable and the unanswerable ones of both halves, by the half's name.
    """

    threshold: float
    keep: float
    index: str
    calibration: Point
    held_out: Point
    held_out_curve: Sequence[Point]
    questions: Mapping[str, tuple[int, int]]


def check(questions: Sequence[Question]) -> None:
    """InvalidInput when there are too few to calibrate with; before anything is asked."""
    for part in (Part.CALIBRATION, Part.HELD_OUT):
        answerable = sum(_is_answerable(question) for question in questions if part.holds(question.id))
        if answerable < LEAST_QUESTIONS:
            raise InvalidInput(
                f"The set's {part} half has {answerable} answerable questions; {LEAST_QUESTIONS} are needed. "
                "Add questions that the documents answer."
            )


async def calibrate(prepared: Prepared, keep: float, shows: Shows) -> Calibration:
    """Searches for every question in the live mesh and chooses."""
    plan = prepared.plan
    async with live_mesh(plan.data, plan.target) as mesh:
        collection, _ = await ready_collection(mesh, prepared, shows)
        searches = Searches(mesh.retriever, collection.id, "hybrid", RELEVANCE_PASSAGES)
        shows.stage("questions", len(prepared.questions))
        signals = await _signals(searches, prepared.questions, plan.at_once, shows)
    return chosen(prepared.questions, signals, keep, collection.index)


def chosen(questions: Sequence[Question], signals: Mapping[str, float], keep: float, index: str = "") -> Calibration:
    """The threshold from the calibration half; `signals` are by question id, higher for what is more relevant."""
    halves = {part: _verdicts(questions, signals, part) for part in (Part.CALIBRATION, Part.HELD_OUT)}
    kept = sorted(verdict.signal for verdict in halves[Part.CALIBRATION] if verdict.answerable)
    threshold = math.floor(kept[math.floor((1 - keep) * len(kept))] * _DIGITS) / _DIGITS
    return Calibration(
        threshold,
        keep,
        index,
        outcome_at(halves[Part.CALIBRATION], threshold),
        outcome_at(halves[Part.HELD_OUT], threshold),
        curve(halves[Part.HELD_OUT]),
        {
            str(part): (sum(v.answerable for v in half), sum(not v.answerable for v in half))
            for part, half in halves.items()
        },
    )


def as_json(found: Calibration, set_name: str) -> dict[str, Any]:
    """With stable keys."""
    return {
        "set": set_name,
        "index": found.index,
        "minimum_relevance": found.threshold,
        "keep": found.keep,
        "calibration": _point_json(found.calibration, found.questions[Part.CALIBRATION]),
        "held_out": _point_json(found.held_out, found.questions[Part.HELD_OUT]),
        "held_out_curve": [{"threshold": point.threshold, **_rates_json(point)} for point in found.held_out_curve],
    }


def _point_json(point: Point, questions: tuple[int, int]) -> dict[str, Any]:
    return {"answerable": questions[0], "unanswerable": questions[1], **_rates_json(point)}


def _rates_json(point: Point) -> dict[str, Any]:
    rates = point.rates
    return {
        "answered": point.answered,
        "abstention_precision": rates.precision,
        "abstention_recall": rates.recall,
        "abstention_f1": rates.f1,
    }


async def _signals(searches: Finds, questions: Sequence[Question], at_once: int, shows: Shows) -> dict[str, float]:
    found: dict[str, float] = {}

    async def look(question: Question) -> None:
        passages = (await patiently(lambda: searches.search(question.text))).passages
        found[question.id] = max((relevance(question.text, passage) for passage in passages), default=0.0)
        shows.advance(len(found))

    await for_each(questions, look, at_once)
    return found


def _verdicts(questions: Sequence[Question], signals: Mapping[str, float], part: Part) -> list[Verdict]:
    within = [question for question in questions if part.holds(question.id)]
    return [Verdict(_is_answerable(q), declined=False, f1=0.0, signal=signals[q.id]) for q in within]


def _is_answerable(question: Question) -> bool:
    """A question with an answer or a relevant document can be answered, unless the set says otherwise."""
    return question.answerable if question.answerable is not None else bool(question.answers) or question.is_judged
