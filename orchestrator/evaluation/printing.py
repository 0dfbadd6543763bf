"""What an evaluation says on a terminal and to programs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from mesh.terminal import console, out, print_table
from orchestrator.evaluation.calibration import Calibration
from orchestrator.evaluation.comparison import Comparison
from orchestrator.evaluation.records import MAIN_SCORE, best_threshold
from orchestrator.evaluation.running import Evaluated
from orchestrator.evaluation.runs import Header, StoredRun

INTERRUPTED = 130
"""The exit code of Ctrl-C, as mesh.terminal gives it."""


class Bars:
    """A bar for each stage, on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        if isinstance(error, typer.Exit) and error.exit_code == INTERRUPTED:
            console.print("Interrupted. The same command goes on where this one ended.")

    def stage(self, name: str, total: int) -> None:
        """A stage of so many steps begins."""
        self._task = self._bars.add_task(name, total=total)

    def advance(self, done: int) -> None:
        """So many steps of the stage are done."""
        if self._task is not None:
            self._bars.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._bars.console.print(text, markup=False, soft_wrap=True)


def as_json(evaluated: Evaluated, page: Path) -> dict[str, Any]:
    """The run with stable keys: its figures stand beside what it is of."""
    return header_json(evaluated.run.header) | {
        "report": str(page),
        "curves": dict(evaluated.run.header.curves),
        "records": str(page.with_name("records.jsonl")),
        "gates": [
            {"gate": judged.gate.text, "value": judged.value, "passed": judged.passed} for judged in evaluated.gates
        ],
        "comparison": _comparison_json(evaluated.before, evaluated.comparisons) if evaluated.before else None,
    }


def header_json(header: Header) -> dict[str, Any]:
    """A run's figures, and what it is of."""
    return {
        **header.figures,
        "run": header.id,
        "kind": str(header.kind),
        "set": header.set_name,
        "set_fingerprint": header.set_fingerprint,
        "collection": header.collection,
        "questions": header.questions,
        "settings": dict(header.settings),
        "versions": {"murphey": header.murphey, **header.versions},
        "best_thresholds": {signal: _threshold_json(curve) for signal, curve in header.curves.items()},
        "started": header.started,
        "finished": header.finished or None,
        "notes": list(header.notes),
    }


def print_runs(headers: Sequence[Header]) -> None:
    """One line a run."""
    rows = []
    for header in headers:
        name = "ndcg@10" if MAIN_SCORE[header.kind] == "ndcg@10" else "f1"
        figure = f"{name} {_number(name, header.figures.get(name))}" if header.finished else ""
        rows.append([header.id, str(header.questions), figure, header.collection, header.finished or "broken off"])
    print_table(("run", "questions", "figure", "collection", "finished"), rows)


def print_run(evaluated: Evaluated, page: Path) -> None:
    """Figures, gates and comparison."""
    header = evaluated.run.header
    out.print(f"[bold]{escape(header.id)}[/bold]  collection {escape(header.collection)}")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in header.figures.items():
        if value is not None:
            table.add_row(name, _number(name, value))
    out.print(table)
    for signal, curve in header.curves.items():
        _print_threshold(signal, best_threshold(curve))
    if evaluated.before:
        _print_comparison(evaluated.before.header.id, evaluated.comparisons)
    for judged in evaluated.gates:
        out.print(f"gate {'passed' if judged.passed else 'FAILED'}: {judged.gate.text}", markup=False)
    versions = ", ".join(f"{name} {value}" for name, value in header.versions.items())
    console.print(f"[dim]{escape(versions)}[/dim]", soft_wrap=True)
    out.print(f"report: {page}", markup=False)


def print_calibration(found: Calibration) -> None:
    """The threshold, what it does, and how to set it."""
    table = Table("", "answerable", "answered", "unanswerable", "precision", "recall", "F1", box=None, pad_edge=False)
    for half, point in (("calibration", found.calibration), ("held-out", found.held_out)):
        answerable, unanswerable = found.questions[half]
        rates = (point.answered, point.rates.precision, point.rates.recall, point.rates.f1)
        answered, *declines = [_number("", rate) for rate in rates]
        table.add_row(half, str(answerable), answered, str(unanswerable), *declines)
    out.print(f"[bold]minimum_relevance {found.threshold:.3f}[/bold]  index {escape(found.index)}")
    out.print(table)
    console.print(
        f"Set it for the orchestrator: MURPHEY_ORCHESTRATOR_MINIMUM_RELEVANCE={found.threshold:.3f}", soft_wrap=True
    )


def _print_threshold(signal: str, point: Mapping[str, Any] | None) -> None:
    if point:
        kept = f" and leave {point['answered']:.0%} of the answerable questions answered" if point["answered"] else ""
        f1 = point["rates"]["f1"] or 0
        said = f"declining below a {signal} of {point['threshold']:.3f} would give an abstention F1 of {f1:.3f}{kept}"
        out.print(said, markup=False)


def _print_comparison(before: str, comparisons: Sequence[Comparison]) -> None:
    out.print(f"\ncompared with {before}", markup=False)
    table = Table("", "before", "now", "gain", "95 %", "won/lost/tied", "", box=None, pad_edge=False)
    for each in comparisons:
        counts = f"{each.wins}/{each.losses}/{each.ties}"
        verdict = each.verdict if each.verdict in ("better", "worse") else ""
        between = f"{each.low:+.3f} to {each.high:+.3f}"
        table.add_row(
            each.metric, f"{each.before:.3f}", f"{each.now:.3f}", f"{each.gain:+.3f}", between, counts, verdict
        )
    out.print(table)


def _comparison_json(before: StoredRun, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    metrics = {
        each.metric: {
            "before": each.before, "now": each.now, "gain": each.gain, "low": each.low, "high": each.high,
            "wins": each.wins, "losses": each.losses, "ties": each.ties, "verdict": each.verdict,
        }
        for each in comparisons
    }  # fmt: skip
    return {"run": before.header.id, "metrics": metrics}


def _threshold_json(curve: Sequence[Mapping[str, Any]]) -> dict[str, float | None] | None:
    point = best_threshold(curve)
    if point is None:
        return None
    return {"threshold": point["threshold"], "abstention_f1": point["rates"]["f1"], "answered": point["answered"]}


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    whole = name in ("queries", "failed", "citations")
    return f"{value:.0f}" if whole else f"{value:.1f}" if "_ms" in name or "tokens" in name else f"{value:.4f}"
