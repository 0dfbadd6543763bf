"""`murphey eval` against a real mesh: both commands on a tiny set, resumed, compared, gated, refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Mesh
from tests.orchestrator.evaluation.sample import write_set

pytestmark = pytest.mark.e2e


@pytest.fixture
def pottery(tmp_path: Path) -> str:
    """Four documents, one of them empty and one with an odd id; four questions, one of them unanswerable."""
    return str(write_set(tmp_path / "pottery"))


def evaluated(mesh: Mesh, *words: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    done = mesh.murphey("eval", *words, "--json", env=env)
    assert done.code == 0, done.err
    return done.json()


def test_retrieval_is_measured_stored_and_compared(mesh: Mesh, pottery: str) -> None:
    first = evaluated(mesh, "retrieval", pottery, "--gate", "ndcg@10>=0.9", "--gate", "recall@100>=1")
    assert first["queries"] == 3
    assert first["ndcg@10"] == first["mrr@10"] == first["recall@100"] == first["map"] == first["answer@10"] == 1
    assert first["collection"].startswith("eval-pottery-")
    assert all(gate["passed"] for gate in first["gates"])
    assert first["versions"]["index"]
    assert "How hot is the big kiln fired?" not in first
    assert Path(first["report"]).read_text().startswith("<!DOCTYPE html>")

    embedded = mesh.metric("retriever", "murphey_embedded_texts_total", "document")
    again = evaluated(mesh, "retrieval", pottery, "--mode", "sparse", "--compare", first["run"])
    assert again["collection"] == first["collection"]
    assert mesh.metric("retriever", "murphey_embedded_texts_total", "document") == embedded
    compared = again["comparison"]["metrics"]["ndcg@10"]
    assert compared["wins"] + compared["losses"] + compared["ties"] == 3

    failing = mesh.murphey("eval", "retrieval", pottery, "--gate", "map<0.5")
    assert failing.code == 1
    assert "gate failed: map<0.5; map is 1.0000" in failing.err


def test_answers_are_measured_and_their_citations_checked(mesh: Mesh, pottery: str) -> None:
    found = evaluated(mesh, "answers", pottery, "--at-once", "2")
    assert found["queries"] == 4
    assert found["failed"] == 0
    assert found["contains"] > 0.3
    assert 0 < found["f1"] <= 1
    assert found["abstention_recall"] == 1
    assert found["citations"] > 0
    assert found["citation_verified"] == 1
    assert found["source_recall"] == 1
    assert found["completion_tokens"] > 0
    assert 0 < found["first_token_ms_p50"] <= found["total_ms_p95"]
    assert set(found["versions"]) == {"murphey", "index", "prompt", "model"}
    assert set(found["best_thresholds"]) == {"relevance", "groundedness"}

    behind_one_target = {"MURPHEY_TARGET": mesh.http.removeprefix("http://")}
    gold = evaluated(mesh, "answers", pottery, "--gold-documents", "--compare", found["run"], env=behind_one_target)
    assert gold["queries"] == 3
    assert gold["comparison"]["run"] == found["run"]
    shown = mesh.murphey("eval", "show", found["run"])
    assert shown.code == 0
    assert "citation_verified" in shown.out


def test_an_evaluation_broken_off_goes_on(mesh: Mesh, pottery: str) -> None:
    whole = evaluated(mesh, "retrieval", pottery, "--limit", "20")
    folder = mesh.data / "evaluations" / whole["run"]
    header = json.loads((folder / "header.json").read_text())
    (folder / "header.json").write_text(json.dumps(header | {"finished": ""}))
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:1]) + lines[1][:30])
    resumed = evaluated(mesh, "retrieval", pottery, "--limit", "20")
    assert resumed["run"] == whole["run"]
    assert resumed["queries"] == 3
    assert resumed["ndcg@10"] == whole["ndcg@10"]
    queries = [json.loads(line)["query"] for line in (folder / "records.jsonl").read_text().splitlines()]
    assert sorted(queries) == ["q1", "q2", "q3"]
    assert evaluated(mesh, "retrieval", pottery, "--limit", "20")["run"] != whole["run"]


def test_a_teams_own_questions_about_its_own_collection(
    mesh: Mesh, collection: str, handbook: Path, tmp_path: Path
) -> None:
    empty = mesh.murphey("eval", "retrieval", str(_questions(tmp_path)), "--collection", collection)
    assert empty.code == 1
    assert "holds no chunks" in empty.err
    assert mesh.murphey("ingest", str(handbook), "--collection", collection).code == 0
    found = evaluated(mesh, "retrieval", str(_questions(tmp_path)), "--collection", collection)
    assert (found["queries"], found["mrr@10"]) == (2, 1)
    stray = mesh.murphey("eval", "retrieval", str(_questions(tmp_path, "glaze.txt")), "--collection", collection)
    assert stray.code == 1
    assert "1 of 3 judged documents are not in the collection" in stray.err
    assert "'glaze.txt'" in stray.err
    unknown = mesh.murphey("eval", "answers", str(_questions(tmp_path)), "--collection", "nowhere")
    assert unknown.code == 1
    assert "nowhere" in unknown.err
    model = mesh.murphey("eval", "answers", str(_questions(tmp_path)), "--collection", collection, "--model", "gpt")
    assert model.code == 1
    assert "models/gpt" in model.err


def _questions(folder: Path, stray: str = "") -> Path:
    path = folder / "ours.csv"
    rows = "question,document\nHow hot is the kiln fired?,kiln.md\nWho keeps the spare key?,keys\n"
    path.write_text(rows + (f"What is glaze?,{stray}\n" if stray else ""))
    return path
