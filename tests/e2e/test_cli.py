"""The command line against a real mesh: a newcomer's path, its JSON, and its exit codes."""

from pathlib import Path

import pytest

from tests.e2e.conftest import MURPHEY, Mesh

pytestmark = pytest.mark.e2e


def ingest(mesh: Mesh, collection: str, *paths: Path) -> list[dict[str, object]]:
    done = mesh.murphey("ingest", *(str(path) for path in paths), "--collection", collection, "--json")
    assert done.code == 0, done.err
    return done.json_lines()


def search(mesh: Mesh, collection: str, question: str) -> list[dict[str, object]]:
    done = mesh.murphey("search", question, "--collection", collection, "--json")
    assert done.code == 0, done.err
    return done.json()["passages"]


def test_ingest_search_ask_show_delete(mesh: Mesh, collection: str, handbook: Path) -> None:
    lines = ingest(mesh, collection, handbook)
    assert {line["document"]: line["status"] for line in lines} == {
        "kiln.md": "indexed",
        "crew/keys.txt": "indexed",
        "prices.html": "indexed",
    }
    assert all(set(line) >= {"path", "document", "status", "chunks", "error"} for line in lines)

    passages = search(mesh, collection, "How hot is the kiln fired?")
    assert passages[0]["document"] == "kiln.md"
    assert set(passages[0]) >= {"document", "chunk", "score", "text", "page", "start", "end"}

    asked = mesh.murphey("ask", "Who keeps the spare key of the glaze store?", "--collection", collection, "--json")
    assert asked.code == 0, asked.err
    answer = asked.json()
    assert set(answer) >= {"answer", "citations", "usage", "versions"}
    citation = answer["citations"][0]
    assert set(citation) >= {"marker", "document", "page", "start", "end", "quote", "attributed"}
    assert citation["document"] == "crew/keys.txt"
    assert "Marlene Oduya" in citation["quote"]

    listed = mesh.murphey("documents", "list", "--collection", collection, "--json").json()
    assert {document["document"] for document in listed["documents"]} == {"kiln.md", "crew/keys.txt", "prices.html"}
    deleted = mesh.murphey("documents", "delete", "crew/keys.txt", "--collection", collection)
    assert deleted.code == 0, deleted.err
    assert all(passage["document"] != "crew/keys.txt" for passage in search(mesh, collection, "spare key glaze store"))


def test_a_collection_is_deleted_after_its_documents(mesh: Mesh, collection: str, handbook: Path) -> None:
    ingest(mesh, collection, handbook)
    refused = mesh.murphey("collections", "delete", collection)
    assert refused.code == 1
    assert f"documents delete --all --collection {collection}" in refused.err
    assert len(search(mesh, collection, "kiln")) > 0
    assert mesh.murphey("documents", "delete", "--collection", collection).code == 2
    deleted = mesh.murphey("documents", "delete", "--all", "--collection", collection)
    assert deleted.code == 0, deleted.err
    assert len(deleted.out.splitlines()) == 3
    assert mesh.murphey("collections", "delete", collection).code == 0
    assert mesh.murphey("collections", "delete", collection).code == 1
    assert ingest_again(mesh, collection, handbook) == {"indexed"}


def ingest_again(mesh: Mesh, collection: str, folder: Path) -> set[object]:
    assert mesh.murphey("collections", "create", collection).code == 0
    return {line["status"] for line in ingest(mesh, collection, folder)}


def test_citations_stand_in_the_document(mesh: Mesh, collection: str, handbook: Path) -> None:
    ingest(mesh, collection, handbook)
    question = "What does an open studio evening cost?"
    answer = mesh.murphey("ask", question, "--collection", collection, "--json").json()
    assert answer["citations"]
    for citation in answer["citations"]:
        span = ["--start", str(citation["start"]), "--end", str(citation["end"])]
        text = mesh.murphey("documents", "text", citation["document"], *span, "--collection", collection, "--json")
        assert text.json()["text"] == citation["quote"]


def test_a_question_that_the_documents_cannot_answer_is_declined(mesh: Mesh, collection: str, handbook: Path) -> None:
    ingest(mesh, collection, handbook)
    question = "Which chess opening did Bobby Fischer play against Spassky in 1972?"
    answer = mesh.murphey("ask", question, "--collection", collection, "--json").json()
    assert answer["citations"] == []
    assert answer["outcome"] == "declined"


def test_the_same_again_is_unchanged_and_new_content_replaces(mesh: Mesh, collection: str, handbook: Path) -> None:
    ingest(mesh, collection, handbook)
    embedded = mesh.metric("retriever", "murphey_embedded_texts_total", "document")
    assert {line["status"] for line in ingest(mesh, collection, handbook)} == {"unchanged"}
    assert mesh.metric("retriever", "murphey_embedded_texts_total", "document") == embedded
    (handbook / "kiln.md").write_text("# The kiln\n\nThe kiln has been sold to the museum of Faenza.\n")
    statuses = {line["document"]: line["status"] for line in ingest(mesh, collection, handbook)}
    assert statuses["kiln.md"] == "replaced"
    assert "Faenza" in str(search(mesh, collection, "What happened to the kiln?")[0]["text"])
    assert all("1,240" not in str(passage["text"]) for passage in search(mesh, collection, "kiln degrees Celsius"))


def test_a_bad_file_is_named_and_the_others_go_on(mesh: Mesh, collection: str, handbook: Path) -> None:
    (handbook / "broken.pdf").write_bytes(b"%PDF-1.7\n" + bytes(range(256)) * 4)
    (handbook / "empty.txt").touch()
    done = mesh.murphey("ingest", str(handbook), "--collection", collection, "--json")
    assert done.code == 1
    lines = {line["document"]: line for line in done.json_lines()}
    assert lines["kiln.md"]["status"] == "indexed"
    for name in ("broken.pdf", "empty.txt"):
        assert lines[name]["status"] == "failed"
        assert lines[name]["error"]
    listed = mesh.murphey("documents", "list", "--collection", collection, "--json").json()
    assert len(listed["documents"]) == 5
    assert mesh.murphey("documents", "delete", "broken.pdf", "--collection", collection).code == 0


def test_one_target_routes_all_services(mesh: Mesh, collection: str, handbook: Path, tmp_path: Path) -> None:
    target = mesh.http.removeprefix("http://")
    env = {"MURPHEY_TARGET": target, "MURPHEY_DATA": str(tmp_path / "nothing-here")}
    ingested = mesh.murphey("ingest", str(handbook), "--collection", collection, "--json", env=env)
    assert ingested.code == 0, ingested.err
    asked = mesh.murphey("ask", "What does an open studio evening cost?", "--collection", collection, "--json", env=env)
    assert asked.code == 0, asked.err
    assert "18" in asked.json()["citations"][0]["quote"]


@pytest.mark.parametrize("command", ["models", "jobs", "collections", "doctor", "documents"])
def test_lists_in_json(mesh: Mesh, command: str) -> None:
    arguments = [command] if command == "doctor" else [command, "list"]
    done = mesh.murphey(*arguments, "--json")
    assert done.code == 0, done.err
    assert isinstance(done.json(), dict)


def test_errors_say_what_to_do(mesh: Mesh, tmp_path: Path) -> None:
    unknown = mesh.murphey("search", "anything", "--collection", "no-such-one", "--json")
    assert unknown.code == 1
    assert "no-such-one" in unknown.err
    empty = mesh.murphey("ask", "   ")
    assert empty.code == 1
    assert "question" in empty.err.lower()
    huge = mesh.murphey("ask", "x" * 100_000)
    assert huge.code == 1
    assert "8192" in huge.err.replace(",", "")
    missing = mesh.murphey("ingest", str(tmp_path / "not-there"))
    assert missing.code == 2


def test_no_mesh_says_how_to_start_one(mesh: Mesh, tmp_path: Path) -> None:
    lonely = Mesh(mesh.process, tmp_path, "", {}, mesh.events)
    done = lonely.murphey("search", "anything")
    assert done.code == 1
    assert "murphey up" in done.err


def test_a_second_up_on_the_same_folder_is_refused(mesh: Mesh) -> None:
    done = mesh.murphey("up", "--port-base", "59000")
    assert done.code == 1
    assert "already runs" in done.err


def test_help_names_every_command() -> None:
    import subprocess

    text = subprocess.run([str(MURPHEY), "--help"], capture_output=True, text=True, check=True).stdout
    for command in ("up", "ingest", "search", "ask", "documents", "jobs", "models", "collections", "doctor"):
        assert command in text


def test_a_collection_is_cut_anew_and_goes_back(mesh: Mesh, collection: str, handbook: Path) -> None:
    assert mesh.murphey("ingest", str(handbook), "--collection", collection).code == 0
    before = mesh.murphey("collections", "show", collection, "--json").json()

    updated = mesh.murphey("collections", "update", collection, "--chunk-tokens", "16", "--chunk-overlap", "0")
    assert updated.code == 0, updated.err
    now = mesh.murphey("collections", "show", collection, "--json").json()
    assert (now["chunk_tokens"], now["overlap_tokens"], now["previous"]) == (16, 0, before["index_version"])
    assert now["chunks"] > before["chunks"]
    found = mesh.murphey("search", "spare key of the glaze store", "--collection", collection, "--json").json()
    assert found["passages"][0]["document"] == "crew/keys.txt"

    back = mesh.murphey("collections", "rollback", collection, "--json")
    assert back.code == 0, back.err
    restored = mesh.murphey("collections", "show", collection, "--json").json()
    assert (restored["index_version"], restored["chunks"]) == (before["index_version"], before["chunks"])
    refused = mesh.murphey("collections", "reindex", collection, "--embedder", "unheard-of")
    assert refused.code == 1
    assert "no embedder" in refused.err
