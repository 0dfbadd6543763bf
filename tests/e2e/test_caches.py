"""What is kept is given again by a real mesh, and never after anything in the collection has changed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Mesh

pytestmark = pytest.mark.e2e

QUESTION = "How hot is the big kiln fired?"


def ask(mesh: Mesh, collection: str, question: str = QUESTION, *arguments: str) -> dict[str, Any]:
    done = mesh.murphey("ask", question, "--collection", collection, "--json", *arguments)
    assert done.code == 0, done.err
    return done.json()


def ingest(mesh: Mesh, collection: str, folder: Path, *arguments: str) -> None:
    done = mesh.murphey("ingest", str(folder), "--collection", collection, "--json", *arguments)
    assert done.code == 0, done.err


@pytest.fixture
def filled(mesh: Mesh, collection: str, handbook: Path) -> str:
    ingest(mesh, collection, handbook)
    return collection


def hits(mesh: Mesh) -> float:
    return mesh.metric("orchestrator", "murphey_cache_lookups_total", 'cache="answers",result="hit"')


def test_an_answer_is_given_again_with_its_citations(mesh: Mesh, filled: str) -> None:
    first, before = ask(mesh, filled), hits(mesh)
    again = ask(mesh, filled)
    assert again["cached_from"] == first["answer_id"] != again["answer_id"]
    assert (again["answer"], again["citations"]) == (first["answer"], first["citations"])
    assert "1,240" in again["citations"][0]["quote"]
    assert again["usage"]["completion_tokens"] == 0 < first["usage"]["completion_tokens"]
    assert hits(mesh) == before + 1
    assert ask(mesh, filled, QUESTION, "--no-cache")["cached_from"] is None


def edit(mesh: Mesh, collection: str, handbook: Path) -> None:
    kiln = handbook / "kiln.md"
    kiln.write_text(kiln.read_text().replace("1,240", "1,180"))
    ingest(mesh, collection, handbook)


def add(mesh: Mesh, collection: str, handbook: Path) -> None:
    (handbook / "new.txt").write_text("Since May the big kiln is fired to 1,180 degrees Celsius only.\n")
    ingest(mesh, collection, handbook)


def label(mesh: Mesh, collection: str, handbook: Path) -> None:
    ingest(mesh, collection, handbook, "--meta", "year=2024")


def delete(mesh: Mesh, collection: str, handbook: Path) -> None:
    done = mesh.murphey("documents", "delete", "kiln.md", "--collection", collection)
    assert done.code == 0, done.err


def sync(mesh: Mesh, collection: str, handbook: Path) -> None:
    (handbook / "kiln.md").unlink()
    ingest(mesh, collection, handbook, "--sync")


@pytest.mark.parametrize(("change", "gone"), [(edit, True), (add, False), (label, False), (delete, True), (sync, True)])
def test_no_answer_is_stale_after_a_change(
    mesh: Mesh, filled: str, handbook: Path, change: Callable[[Mesh, str, Path], None], gone: bool
) -> None:
    ask(mesh, filled)
    assert ask(mesh, filled)["cached_from"]
    change(mesh, filled, handbook)
    answer = ask(mesh, filled)
    assert answer["cached_from"] is None
    if gone:
        assert "1,240" not in str(answer)


def test_what_a_deleted_document_said_is_in_no_answer_that_is_kept(mesh: Mesh, filled: str) -> None:
    first = ask(mesh, filled)["answer_id"]
    again = ask(mesh, filled)["answer_id"]
    shown = mesh.murphey("answers", "show", again, "--json")
    assert "1,240" in str(shown.json()["citations"])
    deleted = mesh.murphey("documents", "delete", "kiln.md", "--collection", filled)
    assert deleted.code == 0, deleted.err
    give_up_s = time.monotonic() + 60
    while any(mesh.murphey("answers", "show", answer, "--json").code == 0 for answer in (first, again)):
        assert time.monotonic() < give_up_s


def test_an_answer_is_replayed_and_a_change_is_shown(mesh: Mesh, filled: str, handbook: Path) -> None:
    answer = ask(mesh, filled)["answer_id"]
    same = mesh.murphey("replay", answer, "--json")
    assert same.code == 0, same.err + same.out
    assert same.json()["same"] is True
    edit(mesh, filled, handbook)
    other = mesh.murphey("replay", answer, "--json")
    assert other.code == 3, other.err
    difference = other.json()
    assert "1,180" in str(difference["gained_citations"])
    assert "1,240" in str(difference["lost_citations"])
    assert difference["changed_versions"] == ["corpus"]
