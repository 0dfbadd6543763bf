"""kill -9 of each service, during an ingest and during an answer: nothing is lost, nothing is doubled."""

import json
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import MURPHEY, Mesh

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


def chunk_counts(mesh: Mesh) -> tuple[int, int, int]:
    """Chunks in the index, staged ones, and chunks that the live documents should have."""
    shown = mesh.murphey("collections", "show", "default", "--json").json()
    listed = mesh.murphey("documents", "list", "--json", "--limit", "1000").json()["documents"]
    assert all(document["state"] == "live" for document in listed), listed
    assert len(listed) == DOCUMENTS
    return shown["chunks"], shown["staged_chunks"], sum(document["chunks"] for document in listed)


@pytest.mark.parametrize("victim", ["retriever", "ingest", "generator", "orchestrator", "gateway"])
def test_kill_during_ingest(own_mesh: Mesh, tmp_path: Path, victim: str) -> None:
    names = write_documents(tmp_path / "reports")
    command = [str(MURPHEY), "ingest", str(tmp_path / "reports"), "--json", "--data", str(own_mesh.data)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first_line = threading.Event()
    lines: list[dict[str, object]] = []

    def read() -> None:
        assert client.stdout is not None
        for line in client.stdout:
            lines.append(json.loads(line))
            first_line.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert first_line.wait(60)
    own_mesh.kill(victim)
    reader.join(120)
    client.wait(30)
    own_mesh.wait_for(lambda event: event.get("service") == victim and event["event"] == "healthy")

    again = own_mesh.murphey("ingest", str(tmp_path / "reports"), "--json")
    assert again.code == 0, again.err
    assert {line["document"] for line in again.json_lines()} == set(names)
    indexed, staged, expected = chunk_counts(own_mesh)
    assert (indexed, staged) == (expected, 0)
    for name in ("000.txt", "031.txt", "059.txt"):
        found = own_mesh.murphey("search", names[name], "--json", "--limit", "1").json()["passages"]
        assert found[0]["document"] == name


@pytest.mark.parametrize("victim", ["retriever", "generator", "orchestrator"])
def test_kill_during_an_answer(own_mesh: Mesh, handbook: Path, victim: str) -> None:
    assert own_mesh.murphey("ingest", str(handbook)).code == 0
    sampling = {"maxTokens": 600, "minTokens": 600}
    body = {"question": {"text": "How hot is the kiln fired, and how long must it cool?", "sampling": sampling}}
    lines: list[str] = []
    try:
        with httpx.stream("POST", f"{own_mesh.http}/v1/answers:stream", json=body, timeout=120) as stream:
            for line in stream.iter_lines():
                if "delta" in line and not any("delta" in earlier for earlier in lines):
                    own_mesh.kill(victim)
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
    own_mesh.wait_for(lambda event: event.get("service") == victim and event["event"] == "healthy")
    after = own_mesh.murphey("ask", "What does an open studio evening cost?", "--json")
    assert after.code == 0, after.err
    assert "18 euros" in after.json()["citations"][0]["quote"]
