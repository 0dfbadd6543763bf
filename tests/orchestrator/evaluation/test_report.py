"""The report: one page that needs nothing else and in which no document's text is anything but text."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator.evaluation import plots, report
from orchestrator.evaluation.gates import Gate, Judged
from orchestrator.evaluation.records import Kind, Record, curves, figures
from orchestrator.evaluation.running import Evaluated, compared
from orchestrator.evaluation.runs import RunStore, StoredRun
from tests.orchestrator.evaluation.sample import header

ATTACK = "<script>alert('x')</script><img src=x onerror=alert(1)>"


def retrieval(query: str, score: float) -> Record:
    passage = {"document": f"{ATTACK}d", "relevant": False, "page": 2, "score": 1.0, "text": f"{ATTACK} text"}
    scores = dict.fromkeys(("ndcg@10", "recall@100", "mrr@10", "map"), score) | {"search_ms": 5.0}
    return Record(query, f"{ATTACK} {query}?", scores, {"ranks": {"d1": 3, "d2": None}, "passages": [passage]})


def answer(query: str, truth: float, declined: float, f1: float) -> Record:
    scores: dict[str, float | None] = {
        "answerable": truth, "declined": declined, "f1_all": f1, "f1": f1 if truth else None, "groundedness": f1,
        "relevance": f1, "first_token_ms": 20.0, "total_ms": 90.0,
    }  # fmt: skip
    shown = {
        "answer": f"{ATTACK} said", "declined": bool(declined), "answers": [ATTACK] if truth else [], "answerable": bool(truth),
        "sentences": [{"words": f"{ATTACK} words", "cited": False, "groundedness": 0.2}],
        "citations": [{"marker": 1, "document": "d", "quote": f"{ATTACK} quote", "stands": False, "supports": False}],
        "passages": [],
    }  # fmt: skip
    return Record(query, "Why?", scores, shown)


def finished(data: Path, kind: Kind, records: list[Record]) -> StoredRun:
    with RunStore(data).open(header(kind=kind, set_name=ATTACK, notes=(ATTACK,)), fresh=True) as run:
        for record in records:
            run.add(record, {})
        return run.finish(figures(kind, records), curves(kind, records))


def parsed(page: str) -> None:
    """Every plot is well-formed, and nothing is loaded from anywhere."""
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert drawings
    for drawing in drawings:
        ElementTree.fromstring(drawing)  # noqa: S314 - our own page
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"(?:src|href)\s*=|url\(|@import", page.replace("&lt;img src=", ""))


def test_a_retrieval_report_with_wins_losses_and_worst_cases(tmp_path: Path) -> None:
    before = finished(tmp_path, Kind.RETRIEVAL, [retrieval("q1", 0.2), retrieval("q2", 0.9), retrieval("q3", 0.5)])
    now = finished(tmp_path, Kind.RETRIEVAL, [retrieval("q1", 0.8), retrieval("q2", 0.1), retrieval("q3", 0.5)])
    gate = Judged(Gate("ndcg@10>=0.9", "ndcg@10", ">=", 0.9), 0.4667)
    path = report.write(Evaluated(now, [gate], before, compared(before, now)))
    page = path.read_text()
    parsed(page)
    assert path.parent == now.folder.absolute()
    worst = page.split("Worst cases")[1]
    assert [worst.index(f" {query}?") for query in ("q2", "q3", "q1")] == sorted(
        worst.index(f" {query}?") for query in ("q2", "q3", "q1")
    )
    wins, losses = page.split("Largest wins")[1].split("Worst cases")[0].split("Largest losses")
    assert ("+0.600" in wins, "-0.800" in losses) == (True, True)
    assert ("-0.800" in wins, "q3?" in wins + losses) == (False, False)
    assert "ndcg@10&gt;=0.9: 0.467" in page
    assert "d2 not found" in page
    assert "no clear difference" in page


def test_an_answers_report_with_its_curve(tmp_path: Path) -> None:
    records = [answer("q1", 1, 0, 0.4), answer("q2", 1, 0, 0.8), answer("q3", 0, 1, 1.0), answer("q4", 0, 0, 0.0)]
    page = report.write(Evaluated(finished(tmp_path, Kind.ANSWERS, records))).read_text()
    parsed(page)
    assert "declining below a relevance of …, best at" in page
    assert "abstention: declining below a relevance of …" in page
    assert "precision of declines" in page
    assert "does not stand there" in page
    assert "to decline: nothing tells" in page
    assert "answerable ones still answered" in page


def test_a_report_of_one_perfect_question(tmp_path: Path) -> None:
    page = report.write(Evaluated(finished(tmp_path, Kind.RETRIEVAL, [retrieval("q1", 1.0)]))).read_text()
    parsed(page)
    assert "None: every question has the full score." in page


def test_a_histogram_counts_every_value() -> None:
    plot = plots.histogram("f1", "f1", {"f1": [0.0, 0.049, 0.05, 0.5, 1.0]}, top=1.0)
    assert plot is not None
    assert [bar.title for bar in plot.bars] == [
        "f1: 2 from 0 to 0.05", "f1: 1 from 0.05 to 0.1", "f1: 1 from 0.5 to 0.55", "f1: 1 from 0.95 to 1",
    ]  # fmt: skip
    assert plot.bars[0].height == pytest.approx(2 * plot.bars[1].height)
    assert plots.histogram("f1", "f1", {"f1": []}) is None
    assert plots.histogram("ms", "ms", {"ms": [0.0, 0.0]}) is not None


def test_gains_stand_above_and_below_the_middle() -> None:
    plot = plots.gains("f1", [("a", 0.5), ("b", -0.5), ("c", 0.0)])
    assert plot is not None
    loss, win = plot.bars
    assert (loss.kind, win.kind) == ("loss", "win")
    assert win.y + win.height == pytest.approx(loss.y)
    assert plots.gains("f1", [("c", 0.0)]) is None
    many = plots.gains("f1", [(str(number), 0.1 + number) for number in range(6_000)])
    assert many is not None
    assert (len(many.bars), many.x_label) == (500, "6000 questions that changed")
    assert plots.curves("f1", "t", {"f1": [(0.5, 0.1)]}) is None
