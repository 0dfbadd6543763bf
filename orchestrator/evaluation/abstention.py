"""How well "I do not know" is said: to questions that nobody can answer, and to no others.

A decline is right when the set says that the question cannot be answered. Precision is the share of right ones among the
declines, recall the share of unanswerable questions that were declined.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MAX_POINTS = 60


@dataclass(frozen=True)
class Verdict:
    """One question: whether it can be answered, whether it was declined, the F1 of what was said, and a signal.

    The signal is any number that should be low when the question cannot be answered, such as the relevance of what was found.
    """

    answerable: bool
    declined: bool
    f1: float
    signal: float


@dataclass(frozen=True)
class Rates:
    """Precision, recall and F1 of the declines, 0 to 1; None where there is nothing to divide by."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Point:
    """What a threshold would have given: everything with a lower signal declined as well.

    `answered` is the share of answerable questions that keep their answer, `f1_all` SQuAD 2.0's F1 over all questions.
    """

    threshold: float
    rates: Rates
    answered: float | None
    f1_all: float


def rates(verdicts: Sequence[Verdict]) -> Rates:
    """The rates of the declines as they were."""
    declined = [verdict for verdict in verdicts if verdict.declined]
    unanswerable = sum(not verdict.answerable for verdict in verdicts)
    right = sum(not verdict.answerable for verdict in declined)
    f1 = 2 * right / (len(declined) + unanswerable) if declined or unanswerable else None
    return Rates(_share(right, len(declined)), _share(right, unanswerable), f1)


def curve(verdicts: Sequence[Verdict]) -> list[Point]:
    """Points from no further declines to the highest signal, at quantiles of the signals. Empty without questions."""
    signals = sorted({verdict.signal for verdict in verdicts})
    step = max(1, len(signals) // MAX_POINTS)
    return [outcome_at(verdicts, threshold) for threshold in signals[::step]]


def best(points: Sequence[Point]) -> Point | None:
    """The point with the highest F1 of declines."""
    return max((point for point in points if point.rates.f1 is not None), key=lambda p: p.rates.f1 or 0, default=None)


def outcome_at(verdicts: Sequence[Verdict], threshold: float) -> Point:
    """What one threshold would have given."""
    then = [verdict if verdict.declined or verdict.signal >= threshold else _declined(verdict) for verdict in verdicts]
    answerable = [verdict for verdict in then if verdict.answerable]
    kept = sum(not verdict.declined for verdict in answerable)
    return Point(threshold, rates(then), _share(kept, len(answerable)), sum(v.f1 for v in then) / len(then))


def _declined(verdict: Verdict) -> Verdict:
    return Verdict(verdict.answerable, True, float(not verdict.answerable), verdict.signal)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
