"""HTTP through the real gateway: JSON, SSE, NDJSON, upload, download, and a stream that is cut in the middle."""

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Mesh

pytestmark = pytest.mark.e2e


@pytest.fixture
def filled(mesh: Mesh, collection: str, handbook: Path) -> str:
    """A collection with the handbook in it, uploaded over HTTP."""
    for path in sorted(path for path in handbook.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            fields = {"collection": f"collections/{collection}"}
            answer = httpx.post(f"{mesh.http}/v1/documents", data=fields, files={"file": (path.name, file)}, timeout=60)
        assert answer.status_code == 200, answer.text
        job = answer.json()["job"]["name"]
        with httpx.stream("GET", f"{mesh.http}/v1/{job}:watch", timeout=60) as watch:
            last = [json.loads(line) for line in watch.iter_lines() if line][-1]
        assert last["result"]["job"]["state"] == "JOB_STATE_SUCCEEDED", last
    return f"collections/{collection}"


def question(text: str, collection: str, **more: object) -> dict[str, object]:
    return {"question": {"text": text, "collection": collection, **more}}


def test_answer_as_json(mesh: Mesh, filled: str, tmp_path: Path) -> None:
    body = question("What does an open studio evening cost?", filled)
    answer = httpx.post(f"{mesh.http}/v1/answers", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    citation = answer.json()["citations"][0]
    assert citation["displayName"] == "prices.html"
    assert "18 euros" in citation["quote"]
    span = citation["span"]
    where = f"{mesh.http}/v1/{citation['document']}:text"
    parameters = {"span.start": span.get("start", "0"), "span.end": span["end"]}
    assert httpx.get(where, params=parameters).json()["text"] == citation["quote"]
    name = f"{mesh.http}/v1/answers/{answer.json()['answerId']}"
    said = {"feedback": {"rating": "RATING_BAD", "betterAnswer": "18 euros [1].", "trainingConsent": True}}
    rated = httpx.post(f"{name}:rate", json=said, timeout=20)
    assert rated.status_code == 200, rated.text
    assert rated.json() == {"feedback": httpx.get(name).json()["answer"]["feedback"]}
    exported = mesh.murphey("train", "feedback", "--out", str(tmp_path / "rows"))
    assert exported.code == 0, exported.err
    rows = [json.loads(line) for line in (tmp_path / "rows" / "preferences.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["chosen"][0]["content"] == "18 euros [1]."]
    assert citation["quote"] in row["prompt"][-1]["content"]


def test_answer_as_server_sent_events(mesh: Mesh, filled: str) -> None:
    events = []
    body = question("How long must the kiln cool?", filled)
    headers = {"Accept": "text/event-stream"}
    with httpx.stream("POST", f"{mesh.http}/v1/answers:stream", json=body, headers=headers, timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data:"):
                events.append(json.loads(line.removeprefix("data:")))
    events = [event.get("result", event) for event in events]
    kinds = [next(iter(event)) for event in events]
    assert kinds[:2] == ["started", "passages"]
    assert kinds[-1] == "finish"
    assert kinds.count("finish") == 1
    assert "delta" in kinds


def test_answer_as_lines(mesh: Mesh, filled: str) -> None:
    body = question("How long must the kiln cool?", filled)
    with httpx.stream("POST", f"{mesh.http}/v1/answers:stream", json=body, timeout=60) as stream:
        kinds = [next(iter(json.loads(line)["result"])) for line in stream.iter_lines() if line]
    assert kinds[0] == "started"
    assert kinds[-1] == "finish"


def test_a_stream_cut_in_the_middle_frees_the_slot_within_a_second(mesh: Mesh, filled: str) -> None:
    sampling = {"maxTokens": 1000, "minTokens": 1000}
    body = question("How hot is the kiln fired, and how long must it cool?", filled, sampling=sampling)
    headers = {"Accept": "text/event-stream"}
    with httpx.stream("POST", f"{mesh.http}/v1/answers:stream", json=body, headers=headers, timeout=60) as stream:
        lines = stream.iter_lines()  # held: an abandoned iterator closes the connection
        assert any("delta" in line for line in lines)
        assert mesh.metric("generator", "murphey_generator_running_requests") == 1
    cut = time.monotonic()
    while mesh.metric("generator", "murphey_generator_running_requests") > 0:
        assert time.monotonic() - cut < 1, "the engine's slot is still taken a second after the client left"


def test_download_gives_the_bytes_back(mesh: Mesh, filled: str, handbook: Path) -> None:
    listed = httpx.get(f"{mesh.http}/v1/{filled}/documents").json()["documents"]
    document = next(document for document in listed if document["displayName"] == "prices.html")
    answer = httpx.get(f"{mesh.http}/v1/{document['name']}:download")
    assert answer.content == (handbook / "prices.html").read_bytes()
    assert "attachment" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"question": {"text": ""}}, 400, "question"),
        ({"question": {"text": "x" * 1_000_000}}, 400, "8192"),
        ({"question": {"text": "a", "collection": "collections/no-such-one"}}, 404, "no-such-one"),
        ({"question": {"text": "a", "passageLimit": -1}}, 400, "passage_limit"),
        ({"question": {"text": "a", "sampling": {"temperature": "NaN"}}}, 400, "temperature"),
    ],
)
def test_bad_questions(mesh: Mesh, body: dict[str, object], status: int, words: str) -> None:
    answer = httpx.post(f"{mesh.http}/v1/answers", json=body, timeout=60)
    assert answer.status_code == status, answer.text
    assert words in answer.text.replace(",", "")


def test_an_unknown_model_is_not_found(mesh: Mesh, filled: str) -> None:
    body = question("What does an open studio evening cost?", filled, model="models/no-such-model")
    answer = httpx.post(f"{mesh.http}/v1/answers", json=body, timeout=60)
    assert answer.status_code == 404
    assert "no-such-model" in answer.text


def test_openapi_and_health(mesh: Mesh) -> None:
    document = httpx.get(f"{mesh.http}/openapi.json").json()
    assert "/v1/answers:stream" in document["paths"]
    assert httpx.get(f"{mesh.http}/healthz").status_code == 200
