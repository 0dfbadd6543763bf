"""The `openai` engine on several servers: who is asked, who is left alone, what is known of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from generator.breaker import BreakerLimits
from generator.engines.base import EngineState, RemoteText
from generator.engines.openai.engine import OpenAIEngine
from generator.requests import ChatMessage, Prompt, Role
from mesh.errors import FailedPrecondition, InvalidInput, Overloaded, Unavailable
from tests.generator.conftest import until
from tests.generator.openai_peer import Asked, Peer, open_peer, refuse, say, send, text_chunk
from tests.generator.test_openai_wire import TEXT, completed, engine_on, failure, options


@asynccontextmanager
async def two_peers() -> AsyncIterator[tuple[Peer, Peer]]:
    async with open_peer(reply=say("first")) as first, open_peer(reply=say("second")) as second:
        yield first, second


async def test_servers_share_the_requests_by_how_many_they_run() -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine, AsyncExitStack() as stack:

        async def busy(asked: Asked) -> AsyncIterator[bytes]:
            yield text_chunk(asked, "on", 1)
            await asyncio.Event().wait()

        first.reply = second.reply = busy
        for _ in range(6):
            news = await stack.enter_async_context(aclosing(engine.run(TEXT)))
            while not isinstance(await anext(news), RemoteText):
                pass
        assert (first.running, second.running) == (3, 3)


async def test_in_turn_when_none_is_busy() -> None:
    async with two_peers() as peers, engine_on(*peers) as engine:
        texts = [(await completed(engine))[0] for _ in range(4)]
    assert sorted(texts) == ["first", "first", "second", "second"]


@pytest.mark.parametrize("status", [429, 500, 503, 401, 404])
async def test_a_request_that_has_brought_no_text_moves_on(status: int) -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine:
        first.reply = refuse(status)
        assert [(await completed(engine))[0] for _ in range(4)] == ["second"] * 4
        assert first.asked


async def test_a_request_that_ended_before_its_first_text_moves_on_too() -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine:
        first.reply = send()
        assert [(await completed(engine))[0] for _ in range(4)] == ["second"] * 4


async def test_a_request_that_has_brought_text_ends_honestly() -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine:
        first.reply = second.reply = send(lambda asked: text_chunk(asked, "half", 1))
        text, error = await failure(engine)
        assert (text, type(error)) == ("half", Unavailable)
        assert len(first.asked) + len(second.asked) == 1


async def test_what_is_wrong_with_the_request_is_wrong_everywhere() -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine:
        first.reply = second.reply = refuse(400, "bad", "top_k")
        assert isinstance((await failure(engine))[1], InvalidInput)
        assert len(first.asked) + len(second.asked) == 1


async def test_when_all_are_full_the_shortest_wait_is_told() -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine:
        first.reply = refuse(429, "full", None, "retry-after: 9")
        second.reply = refuse(429, "full", None, "retry-after: 4")
        error = (await failure(engine))[1]
        assert (type(error), error.retry_after_s) == (Overloaded, 4)


async def test_a_server_that_asked_for_a_pause_is_asked_last() -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine:
        first.reply = refuse(429, "full", None, "retry-after: 300")
        for _ in range(4):
            assert (await completed(engine))[0] == "second"
        assert len(first.asked) <= 1


async def test_a_sick_server_is_not_asked_until_it_is_well() -> None:
    async with two_peers() as (first, second), engine_on(first, second) as engine:
        first.well = False
        await engine.look()
        assert {(await completed(engine))[0] for _ in range(4)} == {"first", "second"}  # one look may be missed
        await engine.look()
        first.asked.clear()
        assert [(await completed(engine))[0] for _ in range(4)] == ["second"] * 4
        assert not first.asked
        first.well = True
        await engine.look()
        assert {(await completed(engine))[0] for _ in range(4)} == {"first", "second"}


async def test_a_server_that_keeps_failing_is_left_alone_for_a_while() -> None:
    async with open_peer(reply=refuse(500)) as peer:
        async with OpenAIEngine([peer.url], options(), BreakerLimits(failures=2, open_s=3600), 3600) as engine:
            for _ in range(2):
                await failure(engine)
            error = (await failure(engine))[1]
            assert "left alone" in error.message
            assert error.retry_after_s is not None
            assert len(peer.asked) == 2
        async with OpenAIEngine([peer.url], options(), BreakerLimits(failures=2, open_s=0.05), 3600) as engine:
            for _ in range(2):
                await failure(engine)
            peer.reply = say("back")
            await _answers(engine)


async def _answers(engine: OpenAIEngine) -> None:
    """Asks until the breaker lets a request through."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                assert (await completed(engine))[0] == "back"
                return
            await asyncio.sleep(0.01)


async def test_a_killed_server_is_unavailable_and_comes_back_by_itself() -> None:
    ready: list[bool] = []
    limits = BreakerLimits(100, 60)
    async with open_peer() as peer, OpenAIEngine([peer.url], options(), limits, 0.02, ready.append) as engine:
        assert engine.state is EngineState.READY
        await peer.stop()
        await until(lambda: engine.state is EngineState.LOADING)
        error = (await failure(engine))[1]
        assert isinstance(error, Unavailable)
        assert peer.url in error.message
        await peer.start()
        await until(lambda: engine.state is EngineState.READY)
        assert (await completed(engine))[0] == "Hello world"
        assert ready == [True, False, True]


async def test_the_model_is_what_all_servers_have_in_common() -> None:
    async with open_peer(context_tokens=4096) as large, open_peer(context_tokens=1024, owned_by="sglang") as small:
        async with engine_on(large, small) as engine:
            assert engine.info is not None
            assert engine.info.context_tokens == 1024
            assert "top_k" not in engine.info.sampling_fields
            assert not engine.takes_ids
        async with engine_on(large, context_tokens=512, revision="r7") as engine:
            assert engine.info is not None
            assert (engine.info.context_tokens, engine.info.version) == (512, "org/Smol-r7-vllm-0.32.0")


BAD_SERVERS = {
    "another model": ({}, {"model": "gpt-9"}, "serves no 'gpt-9'; it serves smol"),
    "a wrong key": ({"key": "sesame"}, {"api_key": "simsim"}, "refuses the generator's key"),
    "no context told": ({"context_tokens": None}, {}, "Set context_tokens"),
}


@pytest.mark.parametrize("what", BAD_SERVERS)
async def test_a_server_that_cannot_serve_says_why(what: str) -> None:
    peer_set_to, set_to, message = BAD_SERVERS[what]
    async with open_peer(**peer_set_to) as peer, engine_on(peer, **set_to) as engine:
        assert engine.state is EngineState.FAILED
        assert message in engine.state_message
        assert engine.info is None
        error = (await failure(engine))[1]
        assert isinstance(error, FailedPrecondition)
        assert "sesame" not in str(error)
        assert "simsim" not in str(error)


async def test_a_key_goes_with_every_call() -> None:
    async with open_peer(key="sesame") as peer, engine_on(peer, api_key="sesame") as engine:
        assert engine.state is EngineState.READY
        assert (await completed(engine))[0] == "Hello world"
        assert peer.asked[0].headers["authorization"] == "Bearer sesame"


async def test_tokens_are_counted_by_a_server_that_offers_it() -> None:
    async with open_peer() as peer, open_peer(tokenizes=False) as other, engine_on(other, peer) as engine:
        assert engine.counts
        assert await engine.count(Prompt(text="größe"), special=False) == 7
        assert await engine.count(Prompt(text="größe"), special=True) == 8
        chat = Prompt(chat=(ChatMessage(Role.USER, "four"),))
        assert await engine.count(chat, special=False) == 7
    async with open_peer(tokenizes=False) as other, engine_on(other) as engine:
        assert not engine.counts
        with pytest.raises(FailedPrecondition, match="Set tokenizer"):
            await engine.count(chat, special=False)
