"""The pipeline over real gRPC: what a caller sees, and what reaches the services behind."""

from murphey.generator.v1 import generator_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from tests.orchestrator.conftest import NORMANS, Client
from tests.orchestrator.fakes import FakeMesh

QUESTION = "Which leader swore fealty to King Charles III?"


async def test_an_answer_streams_with_a_citation_that_stands(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo ", "swore fealty to ", "King Charles III [", "1]. ", "He ruled."]
    events = await client.events(QUESTION)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[:3] == ["started", "passages", "delta"]
    assert kinds[-1] == "finish"
    assert kinds.count("finish") == 1
    assert "".join(event.delta.text for event in events) == "".join(mesh.generator.script)
    marked = next(event.citation for event in events if event.WhichOneof("event") == "citation")
    assert marked.quote == NORMANS[marked.span.start : marked.span.end]
    assert (marked.marker, marked.attributed, marked.display_name, marked.page) == (1, False, "normans.txt", 2)
    finish = events[-1].finish
    assert finish.outcome == pb.OUTCOME_ANSWERED
    assert finish.reason == generator_pb2.FINISH_REASON_STOP
    assert finish.versions.index == "default-1"
    assert finish.versions.model == "models/fake@1"
    assert finish.versions.prompt.startswith("default@")
    assert finish.usage.completion_tokens == 5
    assert finish.timings.total.ToMicroseconds() >= finish.timings.first_token.ToMicroseconds() > 0
