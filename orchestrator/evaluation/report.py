"""The report of a run: one page that needs nothing else, with plots, wins, losses and the worst cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from orchestrator.evaluation import plots
from orchestrator.evaluation.comparison import Comparison
from orchestrator.evaluation.plots import Plot
from orchestrator.evaluation.records import MAIN_SCORE, Kind, Record, best_threshold
from orchestrator.evaluation.running import Evaluated
from orchestrator.evaluation.support import SUPPORTED

WORST, CHANGED = 20, 10
"""Cases that are shown: with the lowest score, and with the largest win and loss."""
_TOLD = {
    "ndcg@10": "nDCG@10", "recall@100": "recall@100", "mrr@10": "MRR@10", "map": "MAP", "f1": "F1", "em": "exact match",
    "ndcg_binary@10": "nDCG@10, relevant or not", "f1_all": "F1, all questions", "em_all": "exact match, all questions",
    "answer@10": "answer in the first 10 passages", "complete@10": "all relevant in the first 10",
    "contains": "holds the answer", "citation_verified": "citations that stand",
    "citation_precision": "citations that stand and support", "citation_coverage": "sentences with a citation",
    "grounded_sentences": "grounded sentences", "source_recall": "relevant documents among the sources",
    "abstained_rightly": "rightly answered or declined",
}  # fmt: skip
_SHARES = {Kind.RETRIEVAL: ("ndcg@10", "recall@100", "mrr@10"), Kind.ANSWERS: ("f1", "groundedness")}
_TIMES = {Kind.RETRIEVAL: ("search_ms",), Kind.ANSWERS: ("first_token_ms", "total_ms")}


@dataclass(frozen=True)
class Case:
    """A question that the page shows, and its score; `gain` where another run had another one."""

    record: Record
    score: float | None
    gain: float | None = None


def write(evaluated: Evaluated) -> Path:
    """Writes the page into the run's folder; returns its path."""
    path = evaluated.run.folder / "report.html"
    scratch = path.with_suffix(".new")
    scratch.write_text(render(evaluated), encoding="utf-8")
    scratch.replace(path)
    return path.absolute()


def render(evaluated: Evaluated) -> str:
    """The page. What came from documents, questions and models is escaped."""
    loader = jinja2.PackageLoader("orchestrator.evaluation")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals["supported"] = SUPPORTED
    header = evaluated.run.header
    main = MAIN_SCORE[header.kind]
    comparison = next((each for each in evaluated.comparisons if each.metric == main), None)
    return environment.get_template("report.html").render(
        header=header,
        told=_TOLD,
        main=main,
        figures=[(_name(name), name, value) for name, value in header.figures.items() if value is not None],
        gates=evaluated.gates,
        before=evaluated.before,
        comparisons=evaluated.comparisons,
        plots=[plot for plot in [*_distributions(evaluated), *_thresholds(evaluated), *_gains(comparison)] if plot],
        worst=_worst(evaluated.run.records, main),
        changed=_changed(evaluated, comparison),
    )


def _name(metric: str) -> str:
    return _TOLD.get(metric, metric.replace("_", " "))


def _distributions(evaluated: Evaluated) -> list[Plot | None]:
    kind, records = evaluated.run.header.kind, evaluated.run.records
    found = [
        plots.histogram(_name(name), _name(name), {name: _values(records, name)}, top=1.0) for name in _SHARES[kind]
    ]
    if kind is Kind.ANSWERS:
        by_truth = {
            told: [r.scores.get("relevance") or 0.0 for r in records if r.scores.get("answerable") == truth]
            for told, truth in (("answerable", 1), ("unanswerable", 0))
        }
        groups = {told: values for told, values in by_truth.items() if values}
        found.append(plots.histogram("relevance of what was found", "relevance of the best passage", groups))
    times = (
        plots.histogram(_name(n.removesuffix("_ms")), "milliseconds", {n: _values(records, n)}) for n in _TIMES[kind]
    )
    return [*found, *times]


def _thresholds(evaluated: Evaluated) -> list[Plot | None]:
    """What declining below a threshold would have given, for each signal: to the answers, and how rightly it declines."""
    found = evaluated.run.header.curves.items()
    declines = [
        plots.curves(
            f"abstention: declining below a {signal} of …",
            signal,
            {
                f"{name} of declines": [(p["threshold"], p["rates"][rate] or 0.0) for p in points]
                for name, rate in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
            },
        )
        for signal, points in found
    ]
    return declines + [
        plots.curves(
            f"declining below a {signal} of …, best at {_best(points)}",
            signal,
            {
                "F1 of declines": [(p["threshold"], p["rates"]["f1"] or 0.0) for p in points],
                "answerable ones still answered": [(p["threshold"], p["answered"] or 0.0) for p in points],
                "F1 of all answers": [(p["threshold"], p["f1_all"]) for p in points],
            },
        )
        for signal, points in found
    ]


def _best(points: Sequence[Mapping[str, Any]]) -> str:
    best = best_threshold(points)
    return f"{best['threshold']:.3f}" if best else "none"


def _gains(comparison: Comparison | None) -> list[Plot | None]:
    if comparison is None:
        return []
    gained = [(difference.query, difference.gain) for difference in comparison.differences]
    return [plots.gains(f"{_name(comparison.metric)}: gain by question", gained)]


def _worst(records: Sequence[Record], main: str) -> list[Case]:
    """Of cases with one score, those first whose first relevant document comes latest or whose words are least grounded."""
    scored = [(record, score) for record in records if (score := record.scores.get(main)) is not None and score < 1]

    def badness(pair: tuple[Record, float]) -> tuple[float, float, str]:
        record, score = pair
        second = record.scores.get("map", record.scores.get("groundedness"))
        return score, second or 0.0, record.query

    return [Case(record, score) for record, score in sorted(scored, key=badness)[:WORST]]


def _changed(evaluated: Evaluated, comparison: Comparison | None) -> dict[str, list[Case]]:
    """The largest wins and losses of the main score."""
    if comparison is None:
        return {}
    records = {record.query: record for record in evaluated.run.records}
    ordered = sorted(comparison.differences, key=lambda difference: (difference.gain, difference.query))
    losses = [difference for difference in ordered[:CHANGED] if difference.gain < 0]
    wins = [difference for difference in reversed(ordered[-CHANGED:]) if difference.gain > 0]
    return {
        told: [Case(records[each.query], each.now, each.gain) for each in chosen]
        for told, chosen in (("Largest wins", wins), ("Largest losses", losses))
    }


def _values(records: Sequence[Record], name: str) -> list[float]:
    return [value for record in records if (value := record.scores.get(name)) is not None]
