"""More questions than places, too little time, and questions for which nobody waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from mesh.channel import open_channel
from mesh.errors import Overloaded, from_rpc_error
from mesh.priorities import HEADER
from mesh.server import serving
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from orchestrator.app import SERVICE, open_service
from orchestrator.settings import OrchestratorSettings
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh

QUESTION = "Which leader swore fealty to King Charles III?"
REQUEST = pb.StreamAnswerRequest(question=pb.Question(text=QUESTION))


@asynccontextmanager
async def orchestrator(settings: OrchestratorSettings, **changes: object) -> AsyncIterator[Client]:
    """One with other settings."""
    changed = settings.model_copy(update=changes)
    async with (
        open_service(changed) as hosted,
        serving(changed, hosted) as port,
        open_channel(f"127.0.0.1:{port}", SERVICE, idempotent=[]) as channel,
    ):
        yield Client(OrchestratorServiceStub(channel), f"127.0.0.1:{port}")


async def test_a_question_waits_for_a_place_and_gets_it(mesh: FakeMesh, settings: OrchestratorSettings) -> None:
    mesh.generator.script = ["Rollo ", "waits."]
    mesh.generator.hold_after = 1
    async with orchestrator(settings, max_answers=1, max_wait_s=60.0) as client:
        first = client.stub.StreamAnswer(REQUEST)
        await first.read()
        second = asyncio.ensure_future(client.answer(QUESTION))
        mesh.generator.hold_after = None
        first.cancel()
        assert (await second).text.startswith("Rollo waits.")


async def test_a_question_that_finds_no_place_in_time_is_refused(
    mesh: FakeMesh, settings: OrchestratorSettings
) -> None:
    mesh.generator.script = ["Rollo ", "waits."]
    mesh.generator.hold_after = 1
    async with orchestrator(settings, max_answers=1, max_wait_s=0.05) as client:
        first = client.stub.StreamAnswer(REQUEST)
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.answer(QUESTION)
        first.cancel()
    error = from_rpc_error(refused.value, "orchestrator")
    assert isinstance(error, Overloaded)
    assert "0.05 s" in error.message
    assert error.retry_after_s


async def test_an_answer_whose_time_goes_into_searching_never_reaches_the_engine(
    mesh: FakeMesh, settings: OrchestratorSettings
) -> None:
    mesh.generator.script = ["Rollo."]
    mesh.retriever.hold = asyncio.Event()
    async with orchestrator(settings, search_share=0.01) as client:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.stub.Answer(pb.AnswerRequest(question=pb.Question(text=QUESTION)), timeout=60)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "retriever did not answer in time" in (
        failed.value.details() or ""
    )  # and not: the whole call's time is over
    await asyncio.wait_for(mesh.retriever.search_cancelled.wait(), 60)
    assert mesh.generator.requests == []


async def test_the_priority_is_passed_on(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo."]
    for metadata in ((), ((HEADER, "batch"),)):
        await client.stub.Answer(pb.AnswerRequest(question=pb.Question(text=QUESTION)), timeout=20, metadata=metadata)
    assert [metadata.get(HEADER) for metadata in mesh.generator.metadata] == [None, "batch"]


async def test_a_priority_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.stub.Answer(pb.AnswerRequest(), timeout=20, metadata=((HEADER, "urgent"),))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "interactive or batch" in (refused.value.details() or "")


async def test_batch_questions_leave_places_to_those_that_people_wait_for(
    mesh: FakeMesh, settings: OrchestratorSettings
) -> None:
    mesh.generator.script = ["Rollo ", "waits."]
    mesh.generator.hold_after = 1
    async with orchestrator(settings, max_answers=2, max_wait_s=0.05) as client:
        batch = client.stub.StreamAnswer(REQUEST, metadata=((HEADER, "batch"),))
        await batch.read()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.stub.Answer(
                pb.AnswerRequest(question=pb.Question(text=QUESTION)), timeout=20, metadata=((HEADER, "batch"),)
            )
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        mesh.generator.hold_after = None
        assert (await client.answer(QUESTION)).text.startswith("Rollo waits.")
        batch.cancel()
