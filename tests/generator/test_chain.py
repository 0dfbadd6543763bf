"""Chains of models over real gRPC: who answers when the first cannot, and what is never done."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from prometheus_client import REGISTRY

from generator.breaker import Breaker, BreakerLimits
from generator.chain import Member, ModelChain
from generator.engines.base import EngineState
from generator.models import ModelView
from generator.requests import CompletionEvent, Counts, Prompt, Sampling
from generator.settings import GeneratorSettings
from mesh.errors import FailedPrecondition, InvalidInput, Overloaded, Unavailable
from murphey.generator.v1 import generator_pb2 as pb
from tests.generator.openai_peer import Asked, Peer, open_peer, refuse, role_chunk, say, send, text_chunk
from tests.generator.test_remote import Door, remote, serve

CHAT = pb.Prompt(chat=pb.Chat(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text="Hello")])]))


@asynccontextmanager
async def chained(folder: Path, **set_to: Any) -> AsyncIterator[tuple[Door, Peer, Peer]]:
    """`models/answers`, the default, is `big` and then `small`."""
    async with open_peer(reply=say("big")) as big, open_peer(reply=say("small"), context_tokens=1024) as small:
        settings = {
            **remote(big, serve_as="big"),
            "also": {"small": remote(small)},
            "fallbacks": {"answers": ("big", "small")},
            "default_model": "answers",
        }
        async with serve(folder, **settings, **set_to) as door:
            yield door, big, small


class Countless:
    """A model that is well and cannot count."""

    def __init__(self, id_: str) -> None:
        self.id = id_

    def view(self) -> ModelView:
        return ModelView(self.id, "1", "none", 8, (), EngineState.READY, "", 1, 8)

    async def count(self, prompts: Sequence[Prompt]) -> Counts:
        raise Unavailable(f"{self.id} cannot count.")

    async def complete(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[CompletionEvent]:
        raise NotImplementedError
        yield


async def test_the_first_answers_while_it_can(tmp_path: Path) -> None:
    async with chained(tmp_path) as (door, _, small):
        answer = await door.say()
        assert (answer.text, answer.finish.model) == ("big", "models/big")
        assert not small.asked


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_one_that_fails_before_its_first_text_is_left_for_the_next(tmp_path: Path, status: int) -> None:
    async with chained(tmp_path) as (door, big, _):
        big.reply = refuse(status)
        events = [event async for event in door.stream()]
        assert [event.WhichOneof("event") for event in events] == ["started", "delta", "finish"]
        assert events[0].started.model == events[-1].finish.model == "models/small"
        assert events[1].delta.text == "small"
        assert big.asked


async def test_one_that_dies_or_breaks_off_before_its_first_text_is_left_too(tmp_path: Path) -> None:
    async with chained(tmp_path) as (door, big, _):
        big.reply = send(role_chunk)
        assert (await door.say(CHAT)).finish.model == "models/small"
        await big.stop()
        assert (await door.say(CHAT)).finish.model == "models/small"


async def test_one_that_says_nothing_is_left_after_a_while(tmp_path: Path) -> None:
    async with chained(tmp_path, fallback_after_s=0.3) as (door, big, small):

        async def silent(asked: Asked) -> AsyncIterator[bytes]:
            yield role_chunk(asked)
            await big.hang()

        async def slow(asked: Asked) -> AsyncIterator[bytes]:
            await asyncio.sleep(0.6)  # the last one of a chain is waited for
            yield text_chunk(asked, "slow", 1, "stop") + b"data: [DONE]\n\n"

        big.reply, small.reply = silent, slow
        answer = await door.say(CHAT)
        assert (answer.text, answer.finish.model) == ("slow", "models/small")
        await big.left.wait()


async def test_one_that_has_said_something_ends_the_request(tmp_path: Path) -> None:
    async with chained(tmp_path) as (door, big, small):
        big.reply = send(lambda asked: text_chunk(asked, "half", 1))
        texts: list[str] = []
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for event in door.stream():
                texts += [event.delta.text] if event.HasField("delta") else []
        assert (texts, caught.value.code()) == (["half"], grpc.StatusCode.UNAVAILABLE)
        assert not small.asked


async def test_a_bad_request_is_not_passed_on(tmp_path: Path) -> None:
    async with chained(tmp_path) as (door, big, small):
        big.reply = refuse(400, "bad", "temperature")
        error = await door.fails()
        assert (type(error), error.field) == (InvalidInput, "sampling.temperature")
        assert not small.asked


async def test_when_no_one_can_all_reasons_are_told(tmp_path: Path) -> None:
    async with chained(tmp_path) as (door, big, small):
        big.reply, small.reply = refuse(500, "oh"), refuse(503, "dear", None, "retry-after: 6")
        error = await door.fails()
        assert type(error) is Unavailable
        assert "big: " in error.message
        assert "small: " in error.message
        big.reply = small.reply = refuse(429, "full", None, "retry-after: 6")
        error = await door.fails()
        assert (type(error), error.retry_after_s) == (Overloaded, 6)


async def test_one_that_keeps_failing_is_not_asked_until_a_probe_succeeds(tmp_path: Path) -> None:
    async with chained(tmp_path, breaker_failures=2, breaker_open_s=0.3) as (door, big, _):
        big.reply = refuse(500)
        left = {"chain": "answers", "model": "big", "reason": "unavailable"}
        before = REGISTRY.get_sample_value("murphey_generator_fallbacks_total", left) or 0
        for _ in range(2):
            assert (await door.say()).finish.model == "models/small"
        assert REGISTRY.get_sample_value("murphey_generator_fallbacks_total", left) == before + 2
        assert REGISTRY.get_sample_value("murphey_generator_breaker_state", {"target": "models/big"}) == 2
        big.reply = say("back")
        async with asyncio.timeout(60):
            while (await door.say()).finish.model != "models/big":
                pass
        assert len(big.asked) == 3
        assert REGISTRY.get_sample_value("murphey_generator_breaker_state", {"target": "models/big"}) == 0


async def test_the_chain_is_a_model_of_what_all_its_models_can(tmp_path: Path) -> None:
    async with chained(tmp_path) as (door, big, small):
        models = {model.name: model for model in (await door.rpc.ListModels(pb.ListModelsRequest())).models}
        assert list(models) == ["models/answers", "models/small", "models/big"]
        chain = models["models/answers"]
        assert (chain.context_tokens, chain.default, chain.state) == (1024, True, pb.MODEL_STATE_READY)
        assert (chain.engine, chain.version) == ("openai", models["models/big"].version)
        assert (await door.say(model="models/small")).text == "small"
        counted = await door.rpc.CountTokens(pb.CountTokensRequest(prompts=[CHAT]))
        assert (list(counted.tokens), counted.model, counted.context_tokens) == ([8], "models/big", 1024)
        big.tokenizes = False
        await big.stop()
        counted = await door.rpc.CountTokens(pb.CountTokensRequest(prompts=[CHAT]))
        assert counted.model == "models/small"
        assert not small.asked[1:]


async def test_when_no_one_can_count_each_says_its_own_reason() -> None:
    limits = BreakerLimits(failures=1, open_s=5)
    first, second = (Member(Countless(name), Breaker(f"models/{name}", limits)) for name in ("first", "second"))
    with first.breaker.enter() or pytest.fail("closed") as attempt:
        attempt.failed()  # so that the second is asked before it
    with pytest.raises(Unavailable, match=r"second: second cannot count\. first: first"):
        await ModelChain("both", [first, second], 1.0).count([Prompt(text="a")])


async def test_what_one_of_them_cannot_do_is_refused(tmp_path: Path) -> None:
    async with open_peer() as big, open_peer(owned_by="acme") as plain:
        settings = {**remote(big), "also": {"b": remote(plain)}, "fallbacks": {"c": ("smol", "b")}}
        async with serve(tmp_path, **settings) as door:
            assert (await door.say(top_k=3)).finish.model == "models/smol"
            error = await door.fails(model="models/c", top_k=3)
            assert (type(error), error.field) == (InvalidInput, "sampling.top_k")


async def test_it_is_healthy_while_one_of_them_is(tmp_path: Path) -> None:
    async with open_peer(key="sesame") as locked, open_peer(reply=say("small")) as small:
        settings = {
            **remote(locked),
            "also": {"small": remote(small)},
            "fallbacks": {"c": ("smol", "small")},
            "default_model": "c",
        }
        async with serve(tmp_path, **settings) as door:
            model = (await door.rpc.GetModel(pb.GetModelRequest())).model
            assert (model.state, model.context_tokens) == (pb.MODEL_STATE_READY, 2048)
            assert (await door.say()).finish.model == "models/small"
            assert type(await door.fails(model="models/smol")) in (FailedPrecondition, Unavailable)


@pytest.mark.slow
async def test_a_model_in_process_answers_for_one_whose_server_is_gone(tmp_path: Path) -> None:
    async with open_peer(reply=say("big")) as peer:
        settings = {
            **remote(peer, serve_as="big"),
            "also": {"small": {"model": "smollm2-135m-instruct", "context_tokens": 1024, "kv_cache_gb": 0.2}},
            "fallbacks": {"answers": ("big", "small")},
            "default_model": "answers",
        }
        async with serve(tmp_path, **settings) as door:
            assert (await door.say(CHAT, max_tokens=8)).finish.model == "models/big"
            await peer.stop()
            answer = await door.say(CHAT, max_tokens=8)
            assert (answer.finish.model, answer.finish.usage.completion_tokens) == ("models/small", 8)
            assert answer.text
            view = (await door.rpc.GetModel(pb.GetModelRequest())).model
            assert (view.name, view.context_tokens) == ("models/answers", 1024)
            assert "bad_words" in view.sampling_fields


BAD_CHAINS: list[dict[str, Any]] = [
    {"fallbacks": {"c": ("smol", "nobody")}},
    {"fallbacks": {"c": ()}},
    {"fallbacks": {"c": ("smol", "smol")}},
    {"fallbacks": {"smol": ("smol",)}},
    {"default_model": "nobody"},
    {"also": {"smol": {}}},
]


@pytest.mark.parametrize("settings", BAD_CHAINS)
async def test_chains_of_nothing_are_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    async with open_peer() as peer:
        with pytest.raises(InvalidInput):
            async with serve(tmp_path, **remote(peer), **settings):
                pass


def test_ids_of_chains_and_models_are_ids() -> None:
    for name in ("", "a/b", "ü"):
        with pytest.raises(InvalidInput):
            GeneratorSettings(fallbacks={name: ("smollm2-135m-instruct",)})
