"""kill -9 of each service, during an ingest and during an answer: nothing is lost, nothing is doubled."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import MURPHEY, Mesh, collection_named_like

pytestmark = pytest.mark.e2e

DOCUMENTS = 60
WORDS = ("amber", "basalt", "cedar", "dune", "ember", "fjord", "grove", "harbour", "islet", "jetty", "kelp", "lagoon")


def write_documents(folder: Path) -> dict[str, str]:
    """Documents of several chunks, each with a word of its own; returns name -> word."""
    folder.mkdir()
    names: dict[str, str] = {}
    for number in range(DOCUMENTS):
        own = f"zq{number:03d}x"
        body = [f"Report {own}."]
        for line in range(40):
            picked = [WORDS[(number * 7 + line * 3 + place) % len(WORDS)] for place in range(12)]
            body.append(f"Line {line} of {own}: {' '.join(picked)}.")
        (folder / f"{number:03d}.txt").write_text("\n\n".join(body))
        names[f"{number:03d}.txt"] = own
    return names


@pytest.fixture
def target(fragile_mesh: Mesh, request: pytest.FixtureRequest) -> str:
    """A collection of the test's own."""
    return collection_named_like(request.node.name, fragile_mesh)


def chunk_counts(mesh: Mesh, collection: str) -> tuple[int, int, int]:
    """Chunks in the index, staged ones, and chunks that the live documents should have."""
    shown = mesh.murphey("collections", "show", collection, "--json").json()
    listed = mesh.murphey("documents", "list", "--json", "--collection", collection).json()["documents"]
    assert all(document["state"] == "live" for document in listed), listed
    assert len(listed) == DOCUMENTS
    return shown["chunks"], shown["staged_chunks"], sum(document["chunks"] for document in listed)


@pytest.mark.parametrize("victim", ["retriever", "ingest", "generator", "orchestrator", "gateway"])
def test_kill_during_ingest(fragile_mesh: Mesh, target: str, tmp_path: Path, victim: str) -> None:
    names = write_documents(tmp_path / "reports")
    arguments = ["ingest", str(tmp_path / "reports"), "--json", "--collection", target]
    command = [str(MURPHEY), *arguments, "--data", str(fragile_mesh.data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
        assert client.stdout is not None
        assert json.loads(client.stdout.readline())["document"] in names
        fragile_mesh.kill(victim)
        client.communicate(timeout=120)
    fragile_mesh.wait_for(lambda event: event.get("service") == victim and event["event"] == "healthy")

    again = fragile_mesh.murphey(*arguments)
    assert again.code == 0, again.err
    assert {line["document"] for line in again.json_lines()} == set(names)
    indexed, staged, expected = chunk_counts(fragile_mesh, target)
    assert (indexed, staged) == (expected, 0)
    for name in ("000.txt", "031.txt", "059.txt"):
        found = fragile_mesh.murphey("search", names[name], "--json", "--limit", "1", "--collection", target).json()[
            "passages"
        ]
        assert found[0]["document"] == name


@pytest.mark.parametrize("victim", ["retriever", "generator", "orchestrator"])
def test_kill_during_an_answer(fragile_mesh: Mesh, target: str, handbook: Path, victim: str) -> None:
    assert fragile_mesh.murphey("ingest", str(handbook), "--collection", target).code == 0
    body = {
        "question": {
            "text": "How hot is the kiln fired, and how long must it cool?",
            "collection": f"collections/{target}",
            "sampling": {"maxTokens": 600, "minTokens": 600},
        }
    }
    lines: list[str] = []
    try:
        with httpx.stream("POST", f"{fragile_mesh.http}/v1/answers:stream", json=body, timeout=120) as stream:
            for line in stream.iter_lines():
                if "delta" in line and not any("delta" in earlier for earlier in lines):
                    fragile_mesh.kill(victim)
                lines.append(line)
    except httpx.RemoteProtocolError:
        pass  # the connection broke: the client knows that the answer is not whole
    else:
        last = json.loads([line for line in lines if line][-1])
        if victim == "retriever":
            assert "finish" in last.get("result", {}), last
        else:
            assert "error" in last, last
            assert last["error"]["code"] == 14
    fragile_mesh.wait_for(lambda event: event.get("service") == victim and event["event"] == "healthy")
    after = fragile_mesh.murphey("ask", "What does an open studio evening cost?", "--json", "--collection", target)
    assert after.code == 0, after.err
    assert "18 euros" in after.json()["citations"][0]["quote"]
