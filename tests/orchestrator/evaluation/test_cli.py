"""`murphey eval`: what is refused before any question is asked, with which words and exit code."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from orchestrator.evaluation import cli
from orchestrator.evaluation.runs import RunStore
from tests.orchestrator.evaluation.sample import header, record, write_set

Eval = Callable[..., Result]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Eval:
    """Runs a command on a data folder of its own, on which no mesh runs."""
    monkeypatch.delenv("MURPHEY_TARGET", raising=False)
    root = typer.Typer()
    root.callback()(lambda: None)
    cli.register(root)
    return lambda *words: CliRunner().invoke(root, ["eval", *map(str, words), "--data", str(tmp_path / "data")])


@pytest.fixture
def pottery(tmp_path: Path) -> Path:
    return write_set(tmp_path / "pottery")


def stored(tmp_path: Path, *, finish: bool = True, **changed: object) -> str:
    with RunStore(tmp_path / "data").open(header(**changed), fresh=True) as run:
        run.add(record("q1"), {})
        if finish:
            run.finish({"queries": 1, "ndcg@10": 0.5}, {})
    return run.header.id


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gate", "ndcg@10"), "The gate 'ndcg@10' cannot be read"),
        (("--gate", "f1>=0.5"), "names no metric of this evaluation. They are: queries, ndcg@10"),
        (("--compare", "nothing"), "There is no run 'nothing'"),
        (("--mode", "fuzzy"), "--mode fuzzy is unknown"),
        (("--limit", "5000"), "--limit"),
        (("--part", "third"), "--part"),
        (("--at-once", "0"), "--at-once"),
    ],
)
def test_wrong_usage(evaluate: Eval, pottery: Path, words: tuple[str, ...], said: str) -> None:
    done = evaluate("retrieval", pottery, *words)
    assert done.exit_code == 2, done.output
    assert said in done.stderr


def test_a_set_that_cannot_be_used(evaluate: Eval, tmp_path: Path) -> None:
    assert evaluate("retrieval", tmp_path / "nowhere").exit_code == 2
    done = evaluate("retrieval", write_set(tmp_path / "broken", qrels="q1\tnowhere\t1\n"))
    assert done.exit_code == 2
    assert "line 1: the document 'nowhere' is not in corpus.jsonl" in " ".join(done.stderr.split())
    unjudged = evaluate("retrieval", write_set(tmp_path / "unjudged", qrels=""))
    assert (unjudged.exit_code, "holds no judgements" in unjudged.stderr) == (2, True)
    ours = tmp_path / "ours.csv"
    ours.write_text("question,document\nHow?,kiln.md\n")
    needs = evaluate("retrieval", ours)
    assert (needs.exit_code, "name the collection to ask by --collection" in needs.stderr) == (2, True)


def test_runs_that_cannot_be_compared_with(evaluate: Eval, pottery: Path, tmp_path: Path) -> None:
    other_set = evaluate("retrieval", pottery, "--compare", stored(tmp_path))
    assert (other_set.exit_code, "is of another set" in other_set.stderr) == (2, True)
    other_kind = evaluate("answers", pottery, "--compare", stored(tmp_path))
    assert (other_kind.exit_code, "evaluated retrieval, not answers" in other_kind.stderr) == (2, True)
    broken = stored(tmp_path, finish=False)
    unfinished = evaluate("show", stored(tmp_path), "--compare", broken)
    assert (unfinished.exit_code, "was broken off" in unfinished.stderr) == (2, True)


def test_without_a_mesh_it_says_how_to_start_one(evaluate: Eval, pottery: Path) -> None:
    done = evaluate("retrieval", pottery)
    assert done.exit_code == 1
    assert "murphey up" in done.stderr


def test_runs_are_listed_and_shown(evaluate: Eval, tmp_path: Path) -> None:
    assert json.loads(evaluate("list", "--json").stdout) == {"runs": []}
    before, now, broken = stored(tmp_path), stored(tmp_path), stored(tmp_path, finish=False)
    listed = json.loads(evaluate("list", "--json").stdout)["runs"]
    assert {run["run"] for run in listed} == {before, now, broken}
    assert [run["finished"] is None for run in listed if run["run"] == broken] == [True]
    assert "broken off" in evaluate("list").stdout
    shown = json.loads(evaluate("show", now, "--compare", before, "--json").stdout)
    assert shown["ndcg@10"] == 0.5
    assert shown["versions"]["index"] == "i1"
    assert shown["comparison"]["metrics"]["ndcg@10"]["ties"] == 1
    assert Path(shown["report"]).read_text().startswith("<!DOCTYPE html>")
    assert "ndcg@10" in evaluate("show", now, "--compare", before).stdout
    assert evaluate("show", "other").exit_code == 2
