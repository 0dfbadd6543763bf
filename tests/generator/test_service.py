"""GeneratorService over real gRPC, with the scripted engine in its own process."""

import asyncio
import math
from pathlib import Path

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from generator.app import SERVICE
from mesh.admission import AdmissionLimits
from mesh.errors import Unavailable, from_rpc_error
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1.sampling_pb2 import Guidance, SamplingParams
from tests.generator.conftest import RunningGenerator, begun, open_generator, until
from tests.generator.fakes import CONTEXT_TOKENS, Script

FOREVER = SamplingParams(seed=Script.FOREVER)
DIE = pb.GenerateRequest(prompt=pb.Prompt(text="a"), sampling=SamplingParams(seed=Script.DIE))


def _text(text: str) -> pb.Prompt:
    return pb.Prompt(text=text)


def _stream(generator: RunningGenerator, text: str, sampling: SamplingParams | None = None) -> grpc.aio.UnaryStreamCall:
    return generator.stub.StreamGenerate(pb.StreamGenerateRequest(prompt=_text(text), sampling=sampling))


async def _running(generator: RunningGenerator) -> int:
    """Requests in the engine, as it says itself."""
    sampling = SamplingParams(seed=Script.COUNT_RUNNING)
    return int((await generator.stub.Generate(pb.GenerateRequest(prompt=_text("?"), sampling=sampling))).text)


async def _comes_to_run(generator: RunningGenerator, count: int) -> None:
    """Waits until so many requests are in the engine: a cancel may overtake the request that it is for."""
    async with asyncio.timeout(60):
        while await _running(generator) != count:
            pass


async def test_a_stream_starts_brings_text_and_finishes_once(generator: RunningGenerator) -> None:
    events = [event async for event in _stream(generator, "größe 🚀")]
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "finish")
    assert set(kinds[1:-1]) == {"delta"}
    assert "".join(event.delta.text for event in events[1:-1]) == "größe 🚀"
    assert sum(event.delta.tokens for event in events[1:-1]) == len("größe 🚀".encode())
    finish = events[-1].finish
    assert (finish.reason, finish.model) == (pb.FINISH_REASON_STOP, "models/scripted")
    assert (finish.usage.prompt_tokens, finish.usage.completion_tokens) == (12, 12)
    assert events[0].started.prompt_tokens == 12
    assert events[0].started.model_version == finish.model_version != ""


async def test_a_chat_is_whole_in_one_answer(generator: RunningGenerator) -> None:
    turn = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="hel"), pb.Part(text="lo")])
    answer = await generator.stub.Generate(pb.GenerateRequest(prompt=pb.Prompt(chat=pb.Chat(messages=[turn]))))
    assert answer.text == "hello"  # the scripted engine says the prompt back, control tokens are no text
    assert answer.finish.timings.decode.ToNanoseconds() > 0


async def test_max_tokens_and_time_limit_say_so(generator: RunningGenerator) -> None:
    by_length = SamplingParams(seed=Script.FOREVER, max_tokens=5)
    answer = await generator.stub.Generate(pb.GenerateRequest(prompt=_text("ab"), sampling=by_length))
    assert (answer.text, answer.finish.reason) == ("ababa", pb.FINISH_REASON_LENGTH)
    limit = Duration()
    limit.FromMilliseconds(30)
    by_time = SamplingParams(seed=Script.FOREVER, time_limit=limit)
    answer = await generator.stub.Generate(pb.GenerateRequest(prompt=_text("ab"), sampling=by_time))
    assert answer.finish.reason == pb.FINISH_REASON_TIME_LIMIT


async def test_the_completion_ends_at_the_context(generator: RunningGenerator) -> None:
    request = pb.GenerateRequest(prompt=_text("a" * (CONTEXT_TOKENS - 3)), sampling=FOREVER)
    answer = await generator.stub.Generate(request)
    assert (answer.text, answer.finish.reason) == ("aaa", pb.FINISH_REASON_LENGTH)


def _chat(*messages: pb.Message) -> pb.Prompt:
    return pb.Prompt(chat=pb.Chat(messages=messages))


_IMAGE = pb.Part(image=pb.Media(media_type="image/png", data=b"x"))
_SAID = [pb.Part(text="x")]
BAD = [
    ("prompt", pb.StreamGenerateRequest()),
    ("prompt", pb.StreamGenerateRequest(prompt=_text(""))),
    ("prompt", pb.StreamGenerateRequest(prompt=_text("a" * CONTEXT_TOKENS))),
    ("prompt", pb.StreamGenerateRequest(prompt=_text("a" * 200_000))),
    ("prompt.chat.messages", pb.StreamGenerateRequest(prompt=_chat())),
    ("prompt.chat.messages[0].role", pb.StreamGenerateRequest(prompt=_chat(pb.Message(parts=_SAID)))),
    ("prompt.chat.messages[0].parts", pb.StreamGenerateRequest(prompt=_chat(pb.Message(role=pb.ROLE_USER)))),
    (
        "prompt.chat.messages[0].parts[0].image",
        pb.StreamGenerateRequest(prompt=_chat(pb.Message(role=pb.ROLE_USER, parts=[_IMAGE]))),
    ),
    (
        "prompt.chat.messages[1].role",
        pb.StreamGenerateRequest(
            prompt=_chat(pb.Message(role=pb.ROLE_USER, parts=_SAID), pb.Message(role=pb.ROLE_SYSTEM, parts=_SAID))
        ),
    ),
    ("model", pb.StreamGenerateRequest(prompt=_text("a"), model="scripted")),
    *(
        (f"sampling.{field}", pb.StreamGenerateRequest(prompt=_text("a"), sampling=sampling))
        for field, sampling in (
            ("temperature", SamplingParams(temperature=math.nan)),
            ("max_tokens", SamplingParams(max_tokens=-1)),
            ("top_k", SamplingParams(top_k=3)),
            ("time_limit", SamplingParams(time_limit=Duration(seconds=-1))),
            ("guidance", SamplingParams(guidance=Guidance())),
            ("guidance", SamplingParams(guidance=Guidance(regex="a"))),
        )
    ),
]


async def test_bad_input_is_refused_by_field(generator: RunningGenerator) -> None:
    for field, request in BAD:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in generator.stub.StreamGenerate(request):
                pass
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, field
        assert from_rpc_error(caught.value, "generator").field == field


async def test_a_prompt_beyond_the_context_is_told_both_numbers(generator: RunningGenerator) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=f"{CONTEXT_TOKENS + 7} tokens.* takes {CONTEXT_TOKENS}"):
        await generator.stub.Generate(pb.GenerateRequest(prompt=_text("a" * (CONTEXT_TOKENS + 7))))


async def test_an_unknown_model_is_not_found(generator: RunningGenerator) -> None:
    for call in (
        generator.stub.Generate(pb.GenerateRequest(prompt=_text("a"), model="models/gpt-9")),
        generator.stub.GetModel(pb.GetModelRequest(name="models/gpt-9")),
        generator.stub.CountTokens(pb.CountTokensRequest(prompts=[_text("a")], model="models/gpt-9")),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=r"served: models/scripted") as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_cancelling_the_call_frees_the_slot(generator: RunningGenerator) -> None:
    places = generator.model.admission
    call = _stream(generator, "forever", FOREVER)
    await begun(call)
    assert await _running(generator) == 1
    call.cancel()
    await _comes_to_run(generator, 0)
    await until(lambda: not places.running_requests)


async def test_a_deadline_frees_the_slot(generator: RunningGenerator) -> None:
    places = generator.model.admission
    request = pb.GenerateRequest(prompt=_text("forever"), sampling=FOREVER)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generator.stub.Generate(request, timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await _comes_to_run(generator, 0)
    await until(lambda: not places.running_requests)


async def test_overload_is_refused_at_once_and_passes(tmp_path: Path) -> None:
    """Two run and two wait, in whatever order they arrive; steps so long that none of them ends meanwhile."""
    whole_context = SamplingParams(seed=Script.FOREVER, max_tokens=CONTEXT_TOKENS)
    limits = AdmissionLimits(2, 4 * CONTEXT_TOKENS, 4 * CONTEXT_TOKENS)
    async with open_generator(tmp_path, limits, step_s=0.1) as generator:
        places = generator.model.admission
        calls = [_stream(generator, "a", whole_context) for _ in range(4)]
        await until(lambda: places.waiting_requests == 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await generator.stub.Generate(pb.GenerateRequest(prompt=_text("a")))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert from_rpc_error(caught.value, "generator").retry_after_s
        for call in calls:
            call.cancel()
        await until(lambda: not places.running_requests)
        assert (await generator.stub.Generate(pb.GenerateRequest(prompt=_text("ok")))).text == "ok"


async def test_the_tokens_of_a_few_large_requests_fill_it_as_many_small_ones_do(tmp_path: Path) -> None:
    limits = AdmissionLimits(64, 4 * CONTEXT_TOKENS, CONTEXT_TOKENS + 100)
    async with open_generator(tmp_path, limits, step_s=0.1) as generator:
        sampling = SamplingParams(seed=Script.FOREVER, max_tokens=CONTEXT_TOKENS)
        large = _stream(generator, "a", sampling)
        await begun(large)
        with pytest.raises(grpc.aio.AioRpcError, match=f"{CONTEXT_TOKENS} tokens are pending") as caught:
            await generator.stub.Generate(pb.GenerateRequest(prompt=_text("a" * 101)))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        small = pb.GenerateRequest(prompt=_text("ok"), sampling=SamplingParams(max_tokens=98))
        assert (await generator.stub.Generate(small)).text == "ok"
        large.cancel()


async def test_a_dying_engine_is_unavailable_and_the_model_loads_again(generator: RunningGenerator) -> None:
    call = _stream(generator, "forever", FOREVER)
    await begun(call)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await generator.stub.Generate(DIE)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while isinstance(await call.read(), pb.StreamGenerateResponse):
            pass
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await generator.model.host.settled()
    assert (await generator.stub.GetModel(pb.GetModelRequest())).model.state == pb.MODEL_STATE_READY
    assert (await generator.stub.Generate(pb.GenerateRequest(prompt=_text("back")))).text == "back"


async def test_health_follows_the_engine_and_comes_back_with_it(generator: RunningGenerator) -> None:
    for name in ("", SERVICE):
        health = generator.health.Watch(HealthCheckRequest(service=name))
        assert (await health.read()).status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError):
            await generator.stub.Generate(DIE)
        assert (await health.read()).status == HealthCheckResponse.NOT_SERVING
        assert (await health.read()).status == HealthCheckResponse.SERVING
        health.cancel()


async def test_an_engine_that_does_not_come_back_leaves_the_server_unhealthy(tmp_path: Path) -> None:
    limits = AdmissionLimits(2, 4 * CONTEXT_TOKENS, 4 * CONTEXT_TOKENS)
    async with open_generator(tmp_path, limits, load_error="later: disk gone") as generator:
        with pytest.raises(grpc.aio.AioRpcError):
            await generator.stub.Generate(DIE)
        with pytest.raises(Unavailable):
            await generator.model.host.settled()
        model = (await generator.stub.GetModel(pb.GetModelRequest())).model
        assert model.state == pb.MODEL_STATE_FAILED
        assert "disk gone" in model.state_message
        assert (await generator.health.Check(HealthCheckRequest())).status == HealthCheckResponse.NOT_SERVING


async def test_tokens_are_counted(generator: RunningGenerator) -> None:
    turn = pb.Message(role=pb.ROLE_USER, parts=_SAID)
    counted = await generator.stub.CountTokens(pb.CountTokensRequest(prompts=[_text("four"), _text(""), _chat(turn)]))
    assert list(counted.tokens) == [4, 0, 4]
    assert (counted.model, counted.context_tokens) == ("models/scripted", CONTEXT_TOKENS)
    for wrong in (0, 1_001):
        with pytest.raises(grpc.aio.AioRpcError, match=f"prompts has {wrong} entries"):
            await generator.stub.CountTokens(pb.CountTokensRequest(prompts=[_text("a")] * wrong))


async def test_models_are_listed_with_what_they_can(generator: RunningGenerator) -> None:
    (model,) = (await generator.stub.ListModels(pb.ListModelsRequest())).models
    assert model == (await generator.stub.GetModel(pb.GetModelRequest(name="models/scripted"))).model
    assert (model.name, model.engine, model.default) == ("models/scripted", "scripted", True)
    assert "seed" in model.sampling_fields
    assert "min_p" not in model.sampling_fields
    assert model.state == pb.MODEL_STATE_READY
    with pytest.raises(grpc.aio.AioRpcError, match="page_size"):
        await generator.stub.ListModels(pb.ListModelsRequest(page_size=-1))
