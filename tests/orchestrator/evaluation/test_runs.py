"""Stored runs: broken off and taken up again, found by name, and refused when damaged."""

from pathlib import Path

import pytest

from mesh.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound
from orchestrator.evaluation.runs import RunStore, slug
from tests.orchestrator.evaluation.sample import header, record


def test_a_run_is_stored_with_what_it_was_of(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with store.open(header(), fresh=False) as run:
        run.add(record("q1"), {"index": "i1", "prompt": "p1"})
        run.finish({"queries": 1, "ndcg@10": 0.5}, {})
    found = store.load(run.header.id)
    assert found.header == run.header
    assert found.header.versions == {"index": "i1", "prompt": "p1"}
    assert found.header.finished
    assert found.header.murphey
    assert found.records == (record("q1"),)
    assert found.scores("ndcg@10") == {"q1": 0.5}
    assert run.header.id.startswith("retrieval-pottery-2")


def test_a_run_broken_off_goes_on(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with store.open(header(), fresh=False) as broken:
        broken.add(record("q1"), {})
        broken.add(record("q2"), {})
    with (broken.folder / "records.jsonl").open("ab") as file:
        file.write(b'{"query": "q3", "quest')  # a kill in the middle of a line
    with store.open(header(), fresh=False) as run:
        assert run.header.id == broken.header.id
        assert [each.query for each in run.records] == ["q1", "q2"]
        run.add(record("q3"), {})
        run.finish({}, {})
    assert [each.query for each in store.load(run.header.id).records] == ["q1", "q2", "q3"]
    with store.open(header(), fresh=False) as another:
        assert another.header.id != run.header.id


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"mode": "dense"}}, {"set_fingerprint": "beef"}, {"collection": "c2"}, {"questions": 4},
        {"versions": {"index": "i2"}},
    ],
)  # fmt: skip
def test_another_measurement_begins_anew(tmp_path: Path, other: dict[str, object]) -> None:
    store = RunStore(tmp_path)
    with store.open(header(), fresh=False) as broken:
        broken.add(record("q1"), {})
    with store.open(header(**other), fresh=False) as run:
        assert run.header.id != broken.header.id
        assert run.records == []
    with store.open(header(), fresh=True) as run:
        assert run.header.id != broken.header.id


def test_a_run_that_another_command_works_on_is_left_alone(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with store.open(header(), fresh=False) as first, store.open(header(), fresh=False) as second:
        assert first.header.id != second.header.id


def test_a_mesh_that_changes_ends_the_run(tmp_path: Path) -> None:
    with RunStore(tmp_path).open(header(), fresh=False) as run:
        run.add(record("q1"), {"index": "i1", "prompt": "", "model": ""})
        run.add(record("q2"), {"index": "i1", "prompt": "p1", "model": "m1"})
        run.add(record("q3"), {"index": "i1", "prompt": "", "model": ""})
        with pytest.raises(FailedPrecondition, match=r"The prompt changed from p1 to p2 .* --fresh"):
            run.add(record("q4"), {"index": "i1", "prompt": "p2", "model": "m1"})


def test_runs_are_found_by_name_beginning_or_latest(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.headers() == []
    names = []
    for kind in ("First", "Second"):
        with store.open(header(set_name=kind), fresh=True) as run:
            names.append(run.header.id)
    assert store.load("retrieval-first").header.id == names[0]
    assert store.load("latest").header.id == names[1]
    with pytest.raises(InvalidInput, match="2 runs begin with"):
        store.load("retrieval-")
    with pytest.raises(NotFound, match=r"no run 'other'.*`murphey eval list`"):
        store.load("other")


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with store.open(header(), fresh=False) as run:
        run.add(record("q1"), {})
    (run.folder / "records.jsonl").write_text("{}\n")
    with pytest.raises(Corrupt, match=r"records.jsonl, line 1, is damaged"):
        store.load(run.header.id)
    (run.folder / "header.json").write_text("{")
    with pytest.raises(Corrupt, match=r"header\.json is damaged"):
        store.headers()


def test_names_become_part_of_a_collections_id() -> None:
    assert slug("Squad2 – half!") == "squad2-half"
    assert slug("漢字") == "set"
    assert len(slug("x" * 99)) == 30
