"""The `triton` engine against a real Triton server whose models misbehave, die, or speak nothing that is known."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from bench.triton_repository import FAULTY, FAULTY_WHOLE, STRANGER
from bench.triton_server import TritonServer, triton_server
from mesh.errors import InvalidInput, Unavailable
from murphey.generator.v1 import generator_pb2 as pb
from tests.generator.conftest import begun, until
from tests.generator.test_remote import Door, serve
from tests.generator.test_triton import remote

pytestmark = pytest.mark.e2e

SAID = "größe \N{ROCKET} ok"
BOTH = (FAULTY, FAULTY_WHOLE)


@pytest.fixture(scope="module")
async def triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TritonServer]:
    async with triton_server(tmp_path_factory.mktemp("faulty") / "server", (*BOTH, STRANGER)) as running:
        yield running


def settings(*servers: TritonServer, model: str = FAULTY, **set_to: Any) -> dict[str, Any]:
    return remote(servers[0], model, urls=tuple(server.url for server in servers), breaker_failures=100) | set_to


@pytest.fixture(scope="module")
async def door(triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    also = {FAULTY_WHOLE: remote(triton, FAULTY_WHOLE), STRANGER: remote(triton, STRANGER)}
    async with serve(tmp_path_factory.mktemp("generator"), **settings(triton), also=also) as opened:
        yield opened


async def broken(door: Door, behave: str, model: str) -> tuple[str, grpc.aio.AioRpcError]:
    """The text before the end, and the end."""
    text = ""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for event in door.stream(pb.Prompt(text=behave), f"models/{model}"):
            assert not event.HasField("finish")
            text += event.delta.text
    return text, caught.value


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(("behave", "text"), [("split", SAID), ("late", "late"), ("unmarked", "unmarked")])
async def test_a_completion_is_whole_however_it_comes(door: Door, model: str, behave: str, text: str) -> None:
    answer = await door.say(pb.Prompt(text=behave), f"models/{model}")
    assert answer.text == text
    assert answer.finish.reason == (pb.FINISH_REASON_LENGTH if behave == "unmarked" else pb.FINISH_REASON_STOP)


async def test_whole_texts_that_overtake_each_other(door: Door) -> None:
    assert (await door.say(pb.Prompt(text="disorder"), f"models/{FAULTY_WHOLE}")).text == "one two three four"
    text, error = await broken(door, "back", FAULTY_WHOLE)
    assert (text, error.code()) == ("one two", grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(("behave", "said"), [("error", "the engine is gone"), ("timeout", "'timeout'")])
async def test_what_breaks_in_the_middle_ends_honestly(door: Door, model: str, behave: str, said: str) -> None:
    text, error = await broken(door, behave, model)
    assert text in ("half", "")
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert said in (error.details() or "")


async def test_the_text_of_an_error_is_no_text(door: Door) -> None:
    error = await door.fails(pb.Prompt(text="refused"))
    assert (type(error), error.field) == (InvalidInput, "prompt")


async def test_a_model_that_dies_is_said_until_its_server_is_started_again(
    triton: TritonServer, tmp_path: Path
) -> None:
    """Triton may leave a stream of a dead model open, still calls the model ready, and does not start it again by itself."""
    async with serve(tmp_path, **settings(triton, silence_timeout_s=2)) as door:
        text, error = await broken(door, "dying", FAULTY)
        assert text in ("half", "")  # what it has sent may die with it
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert await tried(door) == "UNAVAILABLE"
        await triton.kill()
        await triton.start()
        async with asyncio.timeout(60):
            while (again := await tried(door)) != "late":
                assert again == "UNAVAILABLE"


async def tried(door: Door) -> str:
    """The text, or the status."""
    try:
        return (await door.say(pb.Prompt(text="late"))).text
    except grpc.aio.AioRpcError as error:
        return error.code().name


async def test_silence_is_a_failure_and_the_model_is_left(triton: TritonServer, tmp_path: Path) -> None:
    def left() -> int:
        return sum(one["event"] == "cancelled" for one in triton.events(FAULTY))

    before = left()
    async with serve(tmp_path, **settings(triton, silence_timeout_s=3)) as door:
        text, error = await broken(door, "silent", FAULTY)
    assert (text, error.code()) == ("half", grpc.StatusCode.UNAVAILABLE)
    assert "nothing for too long" in (error.details() or "")
    await until(lambda: left() > before)


async def test_a_stranger_is_refused_by_what_it_is(door: Door) -> None:
    model = (await door.rpc.GetModel(pb.GetModelRequest(name=f"models/{STRANGER}"))).model
    assert model.state == pb.MODEL_STATE_FAILED
    assert "picture FP32" in model.state_message
    assert "llmapi" in model.state_message
    error = await door.fails(pb.Prompt(text="late"), f"models/{STRANGER}")
    assert isinstance(error, Unavailable)
    assert "picture FP32" in error.message


async def test_a_model_that_the_server_has_not(triton: TritonServer, tmp_path: Path) -> None:
    async with serve(tmp_path, **settings(triton, model="gpt-9")) as door:
        model = (await door.rpc.GetModel(pb.GetModelRequest())).model
        assert model.state == pb.MODEL_STATE_FAILED
        assert "unknown model: 'gpt-9'" in model.state_message


async def test_two_servers_share_the_streams_and_one_is_enough(triton: TritonServer, tmp_path: Path) -> None:
    def begun_on(server: TritonServer) -> int:
        return sum(one["event"] == "begin" for one in server.events(FAULTY))

    async with triton_server(tmp_path / "other", (FAULTY,)) as other:
        before = begun_on(triton), begun_on(other)
        async with serve(tmp_path, **settings(triton, other)) as door:
            calls = [door.stream(pb.Prompt(text="silent")) for _ in range(4)]
            for call in calls:
                await begun(call)
            assert (begun_on(triton) - before[0], begun_on(other) - before[1]) == (2, 2)
            for call in calls:
                call.cancel()
            await other.kill()
            for _ in range(4):
                assert (await door.say(pb.Prompt(text="late"))).text == "late"


async def test_killed_and_back_the_next_request_works(tmp_path: Path) -> None:
    async with triton_server(tmp_path / "server", (FAULTY,)) as server, serve(tmp_path, **settings(server)) as door:
        health = door.health.Watch(HealthCheckRequest())
        assert (await health.read()).status == HealthCheckResponse.SERVING
        call = door.stream(pb.Prompt(text="silent"))
        await begun(call)
        await server.kill()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await call.read():
                pass
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert (await health.read()).status == HealthCheckResponse.NOT_SERVING
        assert isinstance(await door.fails(pb.Prompt(text="late")), Unavailable)
        await server.start()
        assert (await health.read()).status == HealthCheckResponse.SERVING
        health.cancel()
        assert (await door.say(pb.Prompt(text="late"))).text == "late"
