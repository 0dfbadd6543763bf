"""A tiny labelled set, and runs over it, for the tests of this folder."""

import json
from pathlib import Path
from typing import Any

from orchestrator.evaluation.records import Kind, Record
from orchestrator.evaluation.runs import Header

CORPUS = [
    {"_id": "kiln", "title": "The kiln", "text": "The big kiln is fired to 1,240 degrees Celsius on the first Monday."},
    {"_id": "keys/1", "title": "Keys", "text": "Marlene Oduya keeps the spare key of the glaze store in a blue tin."},
    {"_id": "prices", "title": "", "text": "An open studio evening costs 18 euros, clay included."},
    {"_id": "empty", "title": "", "text": ""},
]
QUERIES = [
    {"_id": "q1", "text": "How hot is the big kiln fired?"},
    {"_id": "q2", "text": "Who keeps the spare key of the glaze store?"},
    {"_id": "q3", "text": "What does an open studio evening cost?"},
    {"_id": "q4", "text": "Which chess opening did Bobby Fischer play against Spassky in 1972?"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\tkiln\t2\nq1\tprices\t0\nq2\tkeys/1\t1\nq3\tprices\t1\n"
ANSWERS = [
    {"_id": "q1", "answers": ["1,240 degrees", "1,240 degrees Celsius"]},
    {"_id": "q2", "answers": ["Marlene Oduya"], "answerable": True},
    {"_id": "q3", "answers": ["18 euros"]},
    {"_id": "q4", "answers": [], "answerable": False},
]


def json_lines(rows: list[Any]) -> str:
    """Rows as a file holds them."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_set(folder: Path, **files: str) -> Path:
    """The set in BEIR's form; `corpus`, `queries`, `qrels` and `answers` replace a file's content."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.jsonl").write_text(files.get("corpus", json_lines(CORPUS)))
    (folder / "queries.jsonl").write_text(files.get("queries", json_lines(QUERIES)))
    (folder / "qrels.tsv").write_text(files.get("qrels", QRELS))
    (folder / "answers.jsonl").write_text(files.get("answers", json_lines(ANSWERS)))
    return folder


def header(**changed: Any) -> Header:
    """A run's header before it begins."""
    values: dict[str, Any] = {
        "kind": Kind.RETRIEVAL, "set_name": "Pottery", "set_path": "pottery", "set_fingerprint": "f00d", "questions": 3,
        "collection": "eval-pottery-1", "settings": {"mode": "hybrid"}, "versions": {"index": "i1"},
    }  # fmt: skip
    return Header(**(values | changed))


def record(query: str, **scores: float | None) -> Record:
    """A question's record."""
    return Record(query, f"Question {query}?", scores or {"ndcg@10": 0.5, "map": 0.5, "search_ms": 3.0})
