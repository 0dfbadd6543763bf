"""Bad input, dead services, deadlines and overload: each a clear status with what, where and what to do."""

import asyncio

import grpc
import pytest

from mesh.channel import open_channel
from mesh.errors import InvalidInput, MurpheyError, Overloaded, Unavailable, from_rpc_error
from mesh.server import serving
from murphey.generator.v1 import sampling_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from murphey.retriever.v1 import filter_pb2
from orchestrator.app import SERVICE, open_service
from orchestrator.settings import OrchestratorSettings
from tests.orchestrator.conftest import Client
from tests.orchestrator.fakes import FakeMesh

QUESTION = "Which leader swore fealty to King Charles III?"


async def failure_of(client: Client, text: str = QUESTION, **fields: object) -> MurpheyError:
    """The error that the call ends with, the same for both forms of it."""
    with pytest.raises(grpc.aio.AioRpcError) as streamed:
        await client.events(text, **fields)
    with pytest.raises(grpc.aio.AioRpcError) as whole:
        await client.answer(text, **fields)
    assert streamed.value.code() == whole.value.code()
    return from_rpc_error(streamed.value, "orchestrator")


def sampling(**fields: object) -> sampling_pb2.SamplingParams:
    return sampling_pb2.SamplingParams(**fields)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"text": ""}, "question.text", "empty"),
        ({"text": " \n\t"}, "question.text", "empty"),
        ({"text": "x" * 1_000_000}, "question.text", "1,000,000"),
        ({"collection": "Default"}, "question.collection", "'Default'"),
        ({"conversation": "threads/1"}, "question.conversation", "conversations/ID"),
        ({"passage_limit": 0}, "question.passage_limit", "1 to 100"),
        ({"passage_limit": -5}, "question.passage_limit", "-5"),
        ({"model": "gpt"}, "question.model", "models/ID"),
        ({"sampling": sampling(temperature=float("nan"))}, "question.sampling.temperature", "nan"),
        ({"sampling": sampling(temperature=float("inf"))}, "question.sampling.temperature", "0 to 2"),
        ({"sampling": sampling(max_tokens=-1)}, "question.sampling.max_tokens", "-1"),
        ({"sampling": sampling(max_tokens=5, min_tokens=6)}, "question.sampling.min_tokens", "6"),
        ({"sampling": sampling(top_p=0)}, "question.sampling.top_p", "above 0"),
        ({"sampling": sampling(presence_penalty=3)}, "question.sampling.presence_penalty", "-2 to 2"),
        ({"sampling": sampling(stop=[""])}, "question.sampling.stop", "none of them empty"),
        ({"sampling": sampling(stop=["x"] * 17)}, "question.sampling.stop", "at most 16"),
    ],
)
async def test_bad_input_names_the_field(client: Client, fields: dict[str, object], field: str, words: str) -> None:
    error = await failure_of(client, **{"text": QUESTION} | fields)  # pyright: ignore[reportArgumentType]
    assert isinstance(error, InvalidInput)
    assert error.field == field
    assert words in error.message
    assert len(error.message) < 500


async def test_unknown_things_are_not_found(client: Client) -> None:
    for fields, name, at in (
        ({"collection": "collections/nowhere"}, "collections/nowhere", "question.collection"),
        ({"model": "models/gpt"}, "models/gpt", "question.model"),
        ({"conversation": "conversations/none"}, "conversations/none", None),
    ):
        error = await failure_of(client, **fields)  # pyright: ignore[reportArgumentType]
        assert (type(error).__name__, error.field) == ("NotFound", at)
        assert name in error.message


async def test_an_error_comes_before_any_event_so_that_http_can_tell(mesh: FakeMesh, client: Client) -> None:
    mesh.retriever.failure = InvalidInput("There is no field metadata.x.", field="filter")
    call = client.stub.StreamAnswer(pb.StreamAnswerRequest(question=pb.Question(text=QUESTION)))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert from_rpc_error(failed.value, "orchestrator").field == "question.filter"


async def test_an_unreadable_filter_is_refused_by_the_retriever_alone(mesh: FakeMesh, client: Client) -> None:
    deep = filter_pb2.Filter()
    for _ in range(20):
        deep = filter_pb2.Filter(must=[filter_pb2.Condition(filter=deep)])
    mesh.generator.script = ["Rollo [1]."]
    await client.events(QUESTION, filter=deep)
    assert mesh.retriever.searches[0].filter == deep


@pytest.mark.parametrize("dead", ["retriever", "generator"])
async def test_a_dead_service_is_named(settings: OrchestratorSettings, dead: str) -> None:
    with_dead = settings.model_copy(update={dead: "127.0.0.1:1"})
    async with (
        open_service(with_dead) as hosted,
        serving(with_dead, hosted) as port,
        open_channel(f"127.0.0.1:{port}", SERVICE, idempotent=[]) as channel,
    ):
        error = await failure_of(Client(OrchestratorServiceStub(channel), ""))
    assert isinstance(error, Unavailable)
    assert f"The {dead} cannot be reached" in error.message
    assert error.retry_after_s is not None


async def test_a_generator_that_dies_ends_the_stream_without_finish(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo "]
    mesh.generator.failure_after = Unavailable("The engine died and restarts.")
    kinds = []
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        async for event in client.stub.StreamAnswer(pb.StreamAnswerRequest(question=pb.Question(text=QUESTION))):
            kinds.append(event.WhichOneof("event"))
    assert kinds == ["started", "passages", "delta"]
    assert isinstance(from_rpc_error(failed.value, ""), Unavailable)


async def test_the_deadline_reaches_the_generator(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo ", "never ends"]
    mesh.generator.hold_after = 1
    call = client.stub.StreamAnswer(pb.StreamAnswerRequest(question=pb.Question(text=QUESTION)), timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        async for _ in call:
            pass
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(mesh.generator.cancelled.wait(), 5)


async def test_too_many_answers_are_refused_at_once(mesh: FakeMesh, client: Client) -> None:
    mesh.generator.script = ["Rollo ", "waits"]
    mesh.generator.hold_after = 1
    request = pb.StreamAnswerRequest(question=pb.Question(text=QUESTION))
    running = [client.stub.StreamAnswer(request) for _ in range(4)]
    for call in running:
        await call.read()
    error = await failure_of(client)
    assert isinstance(error, Overloaded)
    assert error.retry_after_s
    for call in running:
        call.cancel()
    await asyncio.wait_for(mesh.generator.cancelled.wait(), 5)
    mesh.generator.hold_after = None
    assert (await _admitted_answer(client)).text.startswith("Rollo waits")


async def _admitted_answer(client: Client) -> pb.AnswerResponse:
    """The servers learn of cancellations one after the other: asks until there is room again."""
    while True:
        try:
            return await client.answer(QUESTION)
        except grpc.aio.AioRpcError as refused:
            if refused.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise


async def test_a_completion_that_leaves_no_room_for_sources_is_refused(mesh: FakeMesh, client: Client) -> None:
    error = await failure_of(client, sampling=sampling(max_tokens=4_090))
    assert isinstance(error, InvalidInput)
    assert error.field == "question.sampling.max_tokens"
    assert "4096" in error.message


async def test_chunks_too_large_for_the_prompt_say_so(mesh: FakeMesh, client: Client) -> None:
    mesh.retriever.chunks.clear()
    mesh.add_document("long.txt", "King Charles III fealty leader " * 900)
    error = await failure_of(client)
    assert type(error).__name__ == "FailedPrecondition"
    assert "smaller chunks" in error.message
