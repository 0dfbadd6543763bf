"""The demo's documents, and that its checks fail where they should. `test_readme.py` runs the demo itself."""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import kreuzberg
import psutil
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo"
DOCUMENTS = sorted((DEMO / "documents").iterdir())


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_run", DEMO / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_run"] = module
    spec.loader.exec_module(module)
    return module


demo = loaded()
PDF_QUESTION = demo.QUESTIONS[0]
CITATION: dict[str, Any] = {
    "marker": 1, "document": "dome-manual.pdf", "page": 2, "start": 0, "end": 9, "quote": "six weeks",
}  # fmt: skip


def test_seven_formats_all_small() -> None:
    assert {path.suffix for path in DOCUMENTS} == {".csv", ".docx", ".eml", ".html", ".md", ".pdf", ".txt"}
    assert all(path.stat().st_size < 30_000 for path in DOCUMENTS)


@pytest.mark.parametrize("question", [q for q in demo.QUESTIONS if q.document], ids=lambda q: q.document)
def test_an_answer_stands_in_one_document(question: Any) -> None:
    holding = [path.name for path in DOCUMENTS if question.words in kreuzberg.extract_file_sync(path).content]
    assert holding == [question.document]


def command(tmp_path: Path, text: str) -> Path:
    """Stands in for `murphey`: a document whose text at any span is `text`, on page 2."""
    path = tmp_path / "murphey"
    path.write_text(f"#!{sys.executable}\nprint({json.dumps({'text': text, 'page': 2})!r})\n")
    path.chmod(0o755)
    return path


def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *citations: dict[str, Any]) -> None:
    monkeypatch.setattr(demo, "MURPHEY", command(tmp_path, text))
    answer = {"answer": "Every six weeks [1].", "outcome": "answered", "citations": list(citations)}
    demo.check_answered(tmp_path, PDF_QUESTION, answer)


def test_a_right_citation_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(tmp_path, monkeypatch, "six weeks", CITATION)


@pytest.mark.parametrize(
    ("text", "citations", "why"),
    [
        ("two weeks", [CITATION], "does not say"),
        ("six weeks", [], "no cited answer"),
        ("six weeks", [CITATION | {"page": 3}], "stand on page 2"),
        ("six weeks", [CITATION | {"document": "visiting.md"}], "no citation is of"),
        ("two weeks", [CITATION | {"quote": "two weeks"}], "no citation is of"),
    ],
)
def test_a_wrong_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, citations: Any, why: str
) -> None:
    with pytest.raises(demo.DemoFailed, match=why):
        check(tmp_path, monkeypatch, text, *citations)


def test_a_wrong_answer_with_a_right_citation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MURPHEY", command(tmp_path, "six weeks"))
    answer = {"answer": "Every day [1].", "outcome": "answered", "citations": [CITATION]}
    with pytest.raises(demo.DemoFailed, match="not in the answer"):
        demo.check_answered(tmp_path, PDF_QUESTION, answer)


def test_an_invented_answer_fails() -> None:
    with pytest.raises(demo.DemoFailed, match="cannot answer"):
        demo.check_declined({"answer": "The Sicilian.", "outcome": "answered", "citations": []})


@pytest.mark.e2e
def test_a_demo_that_is_interrupted_leaves_nothing_running() -> None:
    process = subprocess.Popen([sys.executable, str(DEMO / "run.py")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "healthy" in line:
            break
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
