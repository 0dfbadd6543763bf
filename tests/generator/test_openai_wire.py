"""The `openai` engine against the bytes that servers send."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.breaker import BreakerLimits
from generator.engines.base import Opened, RemoteEnd, RemoteRequest, RemoteText
from generator.engines.openai.engine import OpenAIEngine
from generator.engines.openai.server import ServerOptions
from generator.requests import ChatMessage, FinishReason, Guidance, Prompt, Role, Sampling, Usage
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, Overloaded, Unavailable
from tests.generator.openai_peer import (
    DONE,
    MODEL,
    Asked,
    Peer,
    Refusal,
    Reply,
    cut_off,
    event,
    open_peer,
    refuse,
    role_chunk,
    said,
    say,
    send,
    text_chunk,
    usage_chunk,
)

TEXT = RemoteRequest(Prompt(text="The secret recipe of our house"), 16)
CHAT = RemoteRequest(Prompt(chat=(ChatMessage(Role.USER, "The secret recipe of our house"),)), 16)
LIMITS = BreakerLimits(failures=100, open_s=60)


def options(**changed: object) -> ServerOptions:
    values = {
        "model": MODEL, "api_key": None, "dialect": "auto", "connect_s": 30.0, "silence_s": 60.0,
        "context_tokens": None, "revision": "",
    } | changed  # fmt: skip
    return ServerOptions(**values)  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def engine_on(*peers: Peer, **changed: object) -> AsyncIterator[OpenAIEngine]:
    """An engine that looks at its servers only when a test says so."""
    async with OpenAIEngine([peer.url for peer in peers], options(**changed), LIMITS, 3600) as engine:
        yield engine


async def completed(engine: OpenAIEngine, request: RemoteRequest = TEXT) -> tuple[str, RemoteEnd]:
    """All of a completion."""
    texts, ends = [], []
    async with aclosing(engine.run(request)) as news:
        async for new in news:
            if isinstance(new, RemoteText):
                texts.append(new)
            elif isinstance(new, RemoteEnd):
                ends.append(new)
    (end,) = ends
    assert not end.counted or sum(text.tokens for text in texts) == end.usage.completion
    return "".join(text.text for text in texts), end


async def failure(engine: OpenAIEngine, request: RemoteRequest = TEXT) -> tuple[str, MurpheyError]:
    """The text before it, and the error."""
    text = ""
    with pytest.raises(MurpheyError) as caught:
        async with aclosing(engine.run(request)) as news:
            async for new in news:
                text += new.text if isinstance(new, RemoteText) else ""
    return text, caught.value


@pytest.mark.parametrize("request_", [TEXT, CHAT], ids=["text", "chat"])
@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 10**6])
async def test_text_is_whole_wherever_its_bytes_are_cut(request_: RemoteRequest, piece_bytes: int) -> None:
    said_ = ["grö", "ße ", "🚀", " \u2028\u0085 line", "\r\n\ndata: x", "✓"]
    async with open_peer(reply=say(*said_, piece_bytes=piece_bytes)) as peer, engine_on(peer) as engine:
        text, end = await completed(engine, request_)
    assert text == "".join(said_)
    assert end == RemoteEnd(FinishReason.STOP, Usage(7, 3, 6), True, "org/Smol-vllm-0.32.0")


@given(cuts=st.lists(st.integers(1, 400), max_size=12, unique=True), line=st.sampled_from([b"\n", b"\r\n", b"\r"]))
async def test_any_cut_and_any_line_end(cuts: list[int], line: bytes) -> None:
    async def reply(asked: Asked) -> AsyncIterator[bytes]:
        stream = said(asked, ["grö", "ße 🚀"]).replace(b"\n", line)
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
            if stream[start:end]:
                yield stream[start:end]

    async with open_peer(reply=reply) as peer, engine_on(peer) as engine:
        assert (await completed(engine))[0] == "größe 🚀"


def _chunks(*more: bytes) -> Reply:
    return send(lambda asked: text_chunk(asked, "Hello", 1), *more)


_NESTED = event({"error": {"message": "engine died", "type": "InternalServerError", "param": None, "code": 500}})
_FLAT = event({"object": "error", "message": "engine died", "type": "InternalServerError", "code": 500})
CUT_OFF: dict[str, tuple[Reply, str]] = {
    "no done": (send(lambda asked: said(asked, ["Hello"])[: -len(DONE)]), "cut a completion off"),
    "half a done": (send(lambda asked: said(asked, ["Hello"])[:-1]), "cut a completion off"),
    "no reason": (_chunks(DONE), "without saying why"),
    "connection lost": (_chunks(b'data: {"choi', lambda _: cut_off()), "broke"),  # pyright: ignore[reportArgumentType]
    "nested error": (_chunks(_NESTED, DONE), "engine died"),
    "flat error": (_chunks(_FLAT, DONE), "engine died"),
    "error event": (_chunks(b'event: error\ndata: {"detail": "engine died"}\n\n'), "error in the middle"),
    "no json": (_chunks(b"data: {oops\n\n"), "no JSON object"),
    "aborted": (_chunks(event({"choices": [{"index": 0, "finish_reason": "abort"}]}), DONE), "with 'abort'"),
    "an event without end": (_chunks(*[b"data: " + b"x" * 400_000] * 3), "broke"),
}


@pytest.mark.parametrize("how", CUT_OFF)
async def test_a_completion_that_breaks_off_is_never_an_answer(how: str) -> None:
    reply, message = CUT_OFF[how]
    async with open_peer(reply=reply) as peer, engine_on(peer) as engine:
        text, error = await failure(engine)
    assert text == "Hello"
    assert isinstance(error, Unavailable)
    assert message in error.message


async def test_a_server_that_falls_silent_has_failed() -> None:
    async with open_peer() as peer, engine_on(peer, silence_s=2) as engine:

        async def reply(asked: Asked) -> AsyncIterator[bytes]:
            yield text_chunk(asked, "Hello", 1)
            await peer.hang()

        peer.reply = reply
        text, error = await failure(engine)
        assert (text, type(error)) == ("Hello", Unavailable)
        assert "too long" in error.message
        await peer.left.wait()


async def test_leaving_closes_the_connection_and_the_server_stops() -> None:
    async with open_peer() as peer, engine_on(peer) as engine:

        async def endless(asked: Asked) -> AsyncIterator[bytes]:
            yield role_chunk(asked) + text_chunk(asked, "on", 1)
            await peer.hang()

        peer.reply = endless
        async with aclosing(engine.run(CHAT)) as news:
            async for new in news:
                if isinstance(new, RemoteText):
                    break
        await peer.left.wait()
        peer.reply = say("next")
        assert (await completed(engine))[0] == "next"


async def test_usage_that_no_one_told_is_not_taken_as_told() -> None:
    silent = send(
        lambda asked: text_chunk(asked, "a", 0, None, usage=False) + text_chunk(asked, "b", 0, "length", False)
    )
    async with open_peer(owned_by="llama.cpp", version="") as peer, engine_on(peer) as engine:
        peer.reply = send(lambda asked: text_chunk(asked, "a", 0, usage=False), b": ping\n\n", DONE)
        assert "without saying why" in (await failure(engine))[1].message
        peer.reply = lambda asked: _joined(silent(asked), DONE)
        text, end = await completed(engine)
        assert (text, end.finish, end.usage, end.counted) == ("ab", FinishReason.LENGTH, Usage(0, 0, 2), False)
        assert "continuous_usage_stats" not in peer.asked[0].body["stream_options"]


async def _joined(reply: AsyncIterator[bytes] | Refusal, last: bytes) -> AsyncIterator[bytes]:
    assert not isinstance(reply, Refusal)
    async for piece in reply:
        yield piece
    yield last


async def test_thoughts_and_other_choices_are_no_text() -> None:
    def thinking(asked: Asked) -> bytes:
        other = {"index": 1, "delta": {"content": "other"}, "finish_reason": None}
        thought = {"index": 0, "delta": {"reasoning": "hm", "content": None}, "finish_reason": None}
        return event({"choices": [other, thought]}) + event({"choices": None}) + event({})

    reply = send(thinking, lambda asked: text_chunk(asked, "yes", 2, "stop"), lambda asked: usage_chunk(asked, 2), DONE)
    async with open_peer(reply=reply) as peer, engine_on(peer) as engine:
        text, end = await completed(engine, CHAT)
    assert (text, end.usage.completion) == ("yes", 2)


REFUSALS: dict[str, tuple[Reply, type[MurpheyError], str | None]] = {
    "context": (
        refuse(400, "This model's maximum context length is 2048 tokens.", "input_tokens"),
        InvalidInput,
        "prompt",
    ),
    "max_tokens": (refuse(400, "max_tokens=4000 cannot be greater than 2048", "max_tokens"), InvalidInput, "prompt"),
    "a field": (refuse(400, "temperature must be smaller", "temperature"), InvalidInput, "sampling.temperature"),
    "anything": (refuse(422, "no"), InvalidInput, None),
    "key": (lambda _: Refusal(401, b'{"error":"Unauthorized"}'), FailedPrecondition, None),
    "no such page": (lambda _: Refusal(404, b'{"detail":"Not Found"}'), FailedPrecondition, None),
    "elsewhere": (lambda _: Refusal(307, b"", ("location: http://127.0.0.1:1/v1",)), FailedPrecondition, None),
    "full": (refuse(429), Overloaded, None),
    "a proxy": (lambda _: Refusal(502, b"<html>Bad Gateway</html>", ("content-type: text/html",)), Unavailable, None),
    "starting": (refuse(503), Unavailable, None),
    "no stream": (lambda _: Refusal(200, b'{"choices":[]}'), Unavailable, None),
    "in the stream": (
        send(event({"error": {"message": "no", "type": "BadRequestError", "param": "top_k", "code": 400}}), DONE),
        InvalidInput,
        "sampling.top_k",
    ),
}


@pytest.mark.parametrize("how", REFUSALS)
async def test_refusals_say_who_is_at_fault(how: str) -> None:
    reply, kind, field = REFUSALS[how]
    async with open_peer(reply=reply) as peer, engine_on(peer) as engine:
        text, error = await failure(engine)
    assert (text, type(error), error.field) == ("", kind, field)


@pytest.mark.parametrize(
    ("header", "low_s", "high_s"), [("7", 7, 7), ("Fri, 01 Jan 2100 00:00:00 GMT", 300, 300), ("x", 1, 1)]
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_reaches_the_caller(status: int, header: str, low_s: float, high_s: float) -> None:
    async with (
        open_peer(reply=refuse(status, "full", None, f"retry-after: {header}")) as peer,
        engine_on(peer) as engine,
    ):
        error = (await failure(engine))[1]
    assert error.retry_after_s is not None
    assert low_s <= error.retry_after_s <= high_s


async def test_a_form_that_cannot_be_followed_is_the_callers_fault() -> None:
    broken = event(
        {
            "error": {
                "message": "Invalid grammar specification: (((",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            }
        }
    )
    guided = RemoteRequest(TEXT.prompt, 16, Sampling(guidance=Guidance("grammar", "root ::= (((")))
    async with open_peer(reply=send(broken, DONE)) as peer, engine_on(peer) as engine:
        error = (await failure(engine, guided))[1]
    assert (type(error), error.field) == (InvalidInput, "sampling.guidance.grammar")
    assert "Invalid grammar specification" in error.message


async def test_an_error_never_repeats_the_prompt_nor_the_key() -> None:
    quoting = refuse(400, "Cannot parse 'The secret recipe of our house' as a prompt", "prompt")
    async with open_peer(reply=quoting, key="sesame") as peer, engine_on(peer, api_key="sesame") as engine:
        for request in (TEXT, CHAT):
            error = (await failure(engine, request))[1]
            assert "secret recipe" not in str(error)
            assert error.field == "prompt"
    assert "sesame" not in repr(options(api_key="sesame"))


async def test_an_engine_opens_before_it_says_anything() -> None:
    async with open_peer() as peer, engine_on(peer) as engine, aclosing(engine.run(TEXT)) as news:
        assert await anext(news) == Opened("org/Smol-vllm-0.32.0")
    assert json.dumps(peer.asked[0].body)
