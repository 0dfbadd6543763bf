"""GeneratorService over real gRPC with a model on other servers: the whole way that `murphey up` goes, without a mesh."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from pydantic import ValidationError

from generator.app import open_service
from generator.breaker import BreakerLimits
from generator.engines.openai.engine import OpenAIEngine
from generator.remote import RemoteModel
from generator.requests import ChatMessage, Finish, Prompt, Role, Sampling
from generator.settings import GeneratorSettings
from generator.tokens import PromptTokenizer
from mesh.admission import Admission, AdmissionLimits
from mesh.errors import InvalidInput, MurpheyError, from_rpc_error
from mesh.server import serving
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1.generator_pb2_grpc import GeneratorServiceStub
from murphey.generator.v1.sampling_pb2 import Guidance, SamplingParams
from tests.generator.conftest import begun
from tests.generator.fakes import CONTEXT_TOKENS as LOCAL_CONTEXT_TOKENS
from tests.generator.fakes import END_OF_TURN, prepared_model
from tests.generator.openai_peer import Asked, Peer, open_peer, refuse, say, send, text_chunk
from tests.generator.test_openai_wire import options

VERSION = "org/Smol-vllm-0.32.0"
HELLO = pb.Prompt(text="Hello")


class Door:
    """A generator's RPCs, and its health."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.rpc: Any = GeneratorServiceStub(channel)
        self.health: Any = HealthStub(channel)

    async def say(self, prompt: pb.Prompt = HELLO, model: str = "", **sampling: Any) -> pb.GenerateResponse:
        return await self.rpc.Generate(
            pb.GenerateRequest(model=model, prompt=prompt, sampling=SamplingParams(**sampling))
        )

    async def fails(self, prompt: pb.Prompt = HELLO, model: str = "", **sampling: Any) -> MurpheyError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.say(prompt, model, **sampling)
        return from_rpc_error(caught.value, "generator")

    def stream(self, prompt: pb.Prompt = HELLO, model: str = "", **sampling: Any) -> grpc.aio.UnaryStreamCall:
        return self.rpc.StreamGenerate(
            pb.StreamGenerateRequest(model=model, prompt=prompt, sampling=SamplingParams(**sampling))
        )


def remote(peer: Peer, **set_to: Any) -> dict[str, Any]:
    """Settings of a model there."""
    return {"engine": "openai", "model": "smol", "urls": (peer.url,)} | set_to


@asynccontextmanager
async def serve(folder: Path, **set_to: Any) -> AsyncIterator[Door]:
    settings = GeneratorSettings(data=folder, drain_s=0, **set_to)
    async with AsyncExitStack() as stack:
        hosted = await stack.enter_async_context(open_service(settings))
        port = await stack.enter_async_context(serving(settings, hosted))
        yield Door(await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}")))


@asynccontextmanager
async def remote_door(
    folder: Path, set_to: dict[str, Any] | None = None, **peer: Any
) -> AsyncIterator[tuple[Door, Peer]]:
    async with open_peer(**peer) as there, serve(folder, **remote(there, **(set_to or {}))) as door:
        yield door, there


async def test_a_stream_names_the_model_and_counts(tmp_path: Path) -> None:
    async with remote_door(tmp_path) as (door, peer):
        events = [event async for event in door.stream()]
        started, finish = events[0].started, events[-1].finish
        assert (started.model, started.model_version, started.prompt_tokens) == ("models/smol", VERSION, 6)
        assert "".join(event.delta.text for event in events[1:-1]) == "Hello world"
        assert sum(event.delta.tokens for event in events[1:-1]) == 2
        assert (finish.model, finish.model_version, finish.reason) == ("models/smol", VERSION, pb.FINISH_REASON_STOP)
        usage = pb.Usage(prompt_tokens=7, cached_tokens=3, completion_tokens=2)  # as the server tells
        assert finish.usage == usage
        assert peer.asked[0].body["max_tokens"] == 512


async def test_the_model_is_listed(tmp_path: Path) -> None:
    async with remote_door(tmp_path, {"serve_as": "house"}) as (door, _):
        (model,) = (await door.rpc.ListModels(pb.ListModelsRequest())).models
        assert (model.name, model.engine, model.version) == ("models/house", "openai", VERSION)
        assert (model.context_tokens, model.state) == (2048, pb.MODEL_STATE_READY)
        assert "guidance" in model.sampling_fields


async def test_limits_and_stop_strings_hold_whatever_the_server_does(tmp_path: Path) -> None:
    async with remote_door(tmp_path, reply=say("one ", "two", ". thr", "ee", " four")) as (door, peer):
        answer = await door.say(stop=["o. ", "wo. t"])
        assert (answer.text, answer.finish.reason) == ("one t", pb.FINISH_REASON_STOP)
        answer = await door.say(max_tokens=2)
        assert (answer.text, answer.finish.reason) == ("one two. thr", pb.FINISH_REASON_LENGTH)
        answer = await door.say(stop=["four and more"])
        assert answer.text == "one two. three four"

        async def slow(asked: Asked) -> AsyncIterator[bytes]:
            yield text_chunk(asked, "one f", 1)
            await peer.hang()

        peer.reply, limit = slow, Duration()
        limit.FromSeconds(2)
        answer = await door.say(time_limit=limit, stop=["four"])
        assert (answer.text, answer.finish.reason) == ("one f", pb.FINISH_REASON_TIME_LIMIT)
        assert answer.finish.usage == pb.Usage(prompt_tokens=6, completion_tokens=1)
        await peer.left.wait()


async def test_cancelling_the_call_stops_the_server(tmp_path: Path) -> None:
    async with remote_door(tmp_path) as (door, peer):

        async def endless(asked: Asked) -> AsyncIterator[bytes]:
            yield text_chunk(asked, "on", 1)
            await peer.hang()

        peer.reply = endless
        call = door.stream()
        await begun(call)
        call.cancel()
        await peer.left.wait()
        peer.reply = say("next")
        assert (await door.say()).text == "next"


async def test_a_deadline_stops_the_server(tmp_path: Path) -> None:
    async with remote_door(tmp_path) as (door, peer):

        async def silent(asked: Asked) -> AsyncIterator[bytes]:
            await peer.hang()
            yield b""

        peer.reply = silent
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await door.rpc.Generate(pb.GenerateRequest(prompt=HELLO), timeout=2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await peer.left.wait()


async def test_bad_input_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with remote_door(tmp_path, owned_by="acme", version="") as (door, peer):
        cases: list[tuple[str, pb.Prompt, dict[str, Any]]] = [
            ("sampling.top_k", HELLO, {"top_k": 3}),
            ("sampling.min_tokens", HELLO, {"min_tokens": 3}),
            ("sampling.bad_words", HELLO, {"bad_words": ["a"]}),
            ("sampling.temperature", HELLO, {"temperature": 3}),
            ("sampling.guidance.regex", HELLO, {"guidance": Guidance(regex="a")}),
            ("prompt", pb.Prompt(text=""), {}),
            ("prompt", pb.Prompt(text="a" * 2048), {}),
        ]
        for field, prompt, sampling in cases:
            error = await door.fails(prompt, **sampling)
            assert (type(error), error.field) == (InvalidInput, field)
        error = await door.fails(pb.Prompt(text="a" * 2048))
        assert "2049 tokens; the model smol takes 2048" in error.message
        assert not peer.asked
    async with remote_door(tmp_path) as (door, peer):
        assert (await door.fails(stop_token_ids=[-1])).field == "sampling.stop_token_ids"
        await door.say(pb.Prompt(text="a" * 2000))
        assert peer.asked[0].body["max_tokens"] == 47  # not beyond the context


async def test_tokens_are_counted_there_or_not_at_all(tmp_path: Path) -> None:
    counted = pb.CountTokensRequest(prompts=[HELLO, pb.Prompt(text="größe")])
    async with remote_door(tmp_path) as (door, _):
        answer = await door.rpc.CountTokens(counted)
        assert (list(answer.tokens), answer.model, answer.context_tokens) == ([5, 7], "models/smol", 2048)
    async with remote_door(tmp_path, tokenizes=False) as (door, _):
        with pytest.raises(grpc.aio.AioRpcError, match="Set tokenizer") as caught:
            await door.rpc.CountTokens(counted)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        events = [event async for event in door.stream()]
        assert events[0].started.prompt_tokens == 0
        assert events[-1].finish.usage.prompt_tokens == 7


STATUSES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


async def test_the_servers_refusals_have_their_status(tmp_path: Path) -> None:
    async with remote_door(tmp_path) as (door, peer):
        for status, code in STATUSES.items():
            peer.reply = refuse(status, "no", None, "retry-after: 7")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await door.say()
            assert caught.value.code() == code
            if status in (429, 503):
                assert from_rpc_error(caught.value, "generator").retry_after_s == 7


async def test_a_stream_that_breaks_off_has_no_finish(tmp_path: Path) -> None:
    async with remote_door(tmp_path, reply=send(lambda asked: text_chunk(asked, "half", 1))) as (door, _):
        kinds: list[str | None] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in door.stream():
                kinds.append(event.WhichOneof("event"))
        assert (kinds, caught.value.code()) == (["started", "delta"], grpc.StatusCode.UNAVAILABLE)


async def test_health_follows_the_servers(tmp_path: Path) -> None:
    async with remote_door(tmp_path, {"health_interval_s": 0.05}) as (door, peer):
        health = door.health.Watch(HealthCheckRequest())
        assert (await health.read()).status == HealthCheckResponse.SERVING
        await peer.stop()
        assert (await health.read()).status == HealthCheckResponse.NOT_SERVING
        assert (await door.rpc.GetModel(pb.GetModelRequest())).model.state == pb.MODEL_STATE_LOADING
        await peer.start()
        assert (await health.read()).status == HealthCheckResponse.SERVING
        health.cancel()
        assert (await door.say()).text == "Hello world"


async def test_it_starts_without_its_servers_and_waits_for_them(tmp_path: Path) -> None:
    async with open_peer() as peer:
        await peer.stop()
        async with serve(tmp_path, **remote(peer, health_interval_s=0.05)) as door:
            assert (await door.health.Check(HealthCheckRequest())).status == HealthCheckResponse.NOT_SERVING
            assert "cannot be reached" in (await door.fails()).message
            health = door.health.Watch(HealthCheckRequest())
            assert (await health.read()).status == HealthCheckResponse.NOT_SERVING
            await peer.start()
            assert (await health.read()).status == HealthCheckResponse.SERVING
            health.cancel()
            assert (await door.say()).text == "Hello world"


async def test_the_key_is_in_no_log_and_no_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()  # a test of another room may have sent the logs elsewhere
    async with remote_door(tmp_path, {"api_key": "simsim"}, key="simsim") as (door, peer):
        for reply in (refuse(500), refuse(401), send()):
            peer.reply = reply
            assert "simsim" not in str(await door.fails())
        peer.key = "sesame"
        await door.fails()
        assert "simsim" not in repr(GeneratorSettings(**remote(peer, api_key="simsim")))
    out, err = capfd.readouterr()
    assert "model_server_failed" in out + err
    assert "simsim" not in out + err


BAD_SETTINGS: list[dict[str, Any]] = [
    {"engine": "openai", "model": "smol"},
    {"engine": "openai", "urls": ["http://a"]},
    {"urls": ["http://a"]},
    {"api_key": "x"},
    {"engine": "openai", "model": "smol", "urls": ["http://a"], "quantization": "int8"},
    *(
        {"engine": "openai", "model": "smol", "urls": [url]}
        for url in ("a:8000", "ftp://a", "http://u:p@a", "http://", "http://a?x=1")
    ),
]


@pytest.mark.parametrize("settings", BAD_SETTINGS)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        GeneratorSettings(**settings)
    assert "u:p" not in " ".join(error["msg"] for error in caught.value.errors())


def test_urls_become_base_urls() -> None:
    written = ("http://a:8000", "http://a:8000/v1/", "https://b/openai/v1")
    settings = GeneratorSettings(engine="openai", model="smol", urls=written)
    assert settings.urls == ("http://a:8000/v1", "https://b/openai/v1")


@asynccontextmanager
async def model_with_tokenizer(folder: Path, peer: Peer) -> AsyncIterator[RemoteModel]:
    prepared = prepared_model(folder)
    with_tokenizer = PromptTokenizer(prepared)
    limits = AdmissionLimits(4, 10**6, 10**6)
    async with OpenAIEngine([peer.url], options(), BreakerLimits(5, 5), 3600) as engine:
        yield RemoteModel("smol", engine, Admission(limits), (4, 10**6), with_tokenizer, 256)
        with_tokenizer.close()


async def test_a_tokenizer_of_our_own_counts_and_keeps_control_tokens_in_documents_plain(tmp_path: Path) -> None:
    async with open_peer(tokenizes=False) as peer, model_with_tokenizer(tmp_path, peer) as model:
        plain = Prompt(chat=(ChatMessage(Role.USER, "four"),))
        quoting = Prompt(chat=(ChatMessage(Role.USER, f"a {END_OF_TURN} b"),))
        assert (await model.count([plain, Prompt(text="größe")])).tokens == (7, 7)
        for prompt in (plain, quoting):
            async with aclosing(model.complete(prompt, Sampling())) as events:
                assert [event async for event in events][-1]
        assert peer.asked[0].chat
        ids = peer.asked[1].body["prompt"]
        assert ids.count(256) == 1  # the template's own end of turn
        assert len(ids) == 3 + len(f"a {END_OF_TURN} b")
        assert LOCAL_CONTEXT_TOKENS > 2048  # the server's context is what counts
        with pytest.raises(InvalidInput, match="takes 2048"):
            await anext(aiter(model.complete(Prompt(text="a" * 3000), Sampling())))


async def test_a_server_that_tells_no_usage_is_counted_after(tmp_path: Path) -> None:
    def silent(asked: Asked) -> bytes:
        return text_chunk(asked, "größe", 0, "stop", usage=False) + b"data: [DONE]\n\n"

    async with open_peer(reply=send(silent)) as peer, model_with_tokenizer(tmp_path, peer) as model:
        finish = [event async for event in model.complete(Prompt(text="four"), Sampling())][-1]
    assert isinstance(finish, Finish)
    assert (finish.usage.prompt, finish.usage.completion) == (4, 7)


async def test_many_streams_at_once(tmp_path: Path) -> None:
    async with remote_door(tmp_path, reply=say(*"abcdefgh", piece_bytes=5)) as (door, peer):
        answers = await asyncio.gather(*(door.say() for _ in range(64)))
        assert {answer.text for answer in answers} == {"abcdefgh"}
        assert len(peer.asked) == 64
