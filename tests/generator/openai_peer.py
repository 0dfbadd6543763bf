"""An OpenAI-compatible server for tests, down to the bytes: what vLLM 0.32 sends, and how servers and networks go wrong.

Each piece that a reply yields is an HTTP chunk of its own, which the client's HTTP library hands on as it came, so that a
test decides where bytes are split. Replies are functions of a request; `say` makes the usual one.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

MODEL = "smol"
CONTEXT_TOKENS = 2048


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def chat(self) -> bool:
        return self.path == "/v1/chat/completions"


@dataclass(frozen=True)
class Refusal:
    """An answer that is no stream."""

    status: int
    body: bytes = b""
    headers: tuple[str, ...] = ("content-type: application/json",)


Reply = Callable[[Asked], AsyncIterator[bytes] | Refusal]


def event(chunk: dict[str, Any]) -> bytes:
    """As vLLM's `data: …` and a blank line; pydantic writes JSON without spaces, and text that is not ASCII as it is."""
    return b"data: " + json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def text_chunk(asked: Asked, text: str, completed: int, finish: str | None = None, usage: bool = True) -> bytes:
    """A chunk that brings text, with vLLM's keys in vLLM's order."""
    if asked.chat:
        delta = {"content": text}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": None}
    else:
        choice = {
            "index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None,
            "prompt_token_ids": None, "token_ids": None,
        }  # fmt: skip
    return event(_head(asked) | {"choices": [choice]} | (_usage(completed) if usage else {}))


def usage_chunk(asked: Asked, completed: int) -> bytes:
    """The one without choices, before [DONE]."""
    return event(_head(asked) | {"choices": []} | _usage(completed) | {"system_fingerprint": "vllm-0.32.0-f7f70da0"})


def role_chunk(asked: Asked) -> bytes:
    """The first of a chat."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    return event(_head(asked) | {"choices": [choice]} | _usage(0))


def said(asked: Asked, texts: Sequence[str], finish: str = "stop") -> bytes:
    """A whole stream."""
    start = role_chunk(asked) if asked.chat else b""
    last = len(texts)
    chunks = [text_chunk(asked, text, at, finish if at == last else None) for at, text in enumerate(texts, 1)]
    return start + b"".join(chunks) + usage_chunk(asked, last) + DONE


def say(*texts: str, finish: str = "stop", piece_bytes: int = 10**6) -> Reply:
    """Says the texts, a token each, in pieces of so many bytes."""

    async def reply(asked: Asked) -> AsyncIterator[bytes]:
        stream = said(asked, texts, finish)
        for at in range(0, len(stream), piece_bytes):
            yield stream[at : at + piece_bytes]

    return reply


def send(*pieces: bytes | Callable[[Asked], bytes]) -> Reply:
    """Sends these pieces and ends the body as HTTP wants it."""

    async def reply(asked: Asked) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece if isinstance(piece, bytes) else piece(asked)

    return reply


def refuse(status: int, message: str = "no", param: str | None = None, *headers: str) -> Reply:
    """Refuses as vLLM does."""
    error = {"message": message, "type": "BadRequestError", "param": param, "code": status}
    body = json.dumps({"error": error}).encode()
    return lambda _: Refusal(status, body, ("content-type: application/json", *headers))


def _head(asked: Asked) -> dict[str, Any]:
    kind = "chat.completion.chunk" if asked.chat else "text_completion"
    return {"id": "cmpl-1", "object": kind, "created": 1795401122, "model": MODEL}


def _usage(completed: int) -> dict[str, Any]:
    usage = {"prompt_tokens": 7, "total_tokens": 7 + completed, "completion_tokens": completed}
    return {"usage": usage | {"prompt_tokens_details": {"cached_tokens": 3}}}


class _CutOff(Exception):
    """The reply ends the connection in the middle of its body."""


@dataclass
class Peer:
    """The server and what a test sets about it. `left` is set when a client goes away in the middle of a reply."""

    reply: Reply = field(default_factory=lambda: say("Hello", " world"))
    key: str = ""
    owned_by: str = "vllm"
    version: str = "0.32.0"
    context_tokens: int | None = CONTEXT_TOKENS
    tokenizes: bool = True
    well: bool = True
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    looks: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listens, on the port that it had before if it had one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As if killed: every connection breaks."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def hang(self) -> None:
        """In a reply: until the client goes away or the server is stopped."""
        await asyncio.Event().wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, _CutOff):
                while True:
                    await self._answer(await _request(reader), reader, writer)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked.path.endswith("completions"):
            await self._complete(asked, reader, writer)
            return
        refusal = self._page(asked)
        writer.write(_head_of(refusal) + f"content-length: {len(refusal.body)}\r\n\r\n".encode() + refusal.body)
        await writer.drain()

    def _page(self, asked: Asked) -> Refusal:
        self.looks += asked.path in ("/health", "/v1/models")
        if not self.well:
            return Refusal(503)
        if asked.path.startswith("/v1/") and self._is_stranger(asked):
            return Refusal(401, b'{"error":"Unauthorized"}')
        if asked.path == "/health":
            return Refusal(200)
        if asked.path == "/v1/models":
            card = {
                "id": MODEL,
                "object": "model",
                "created": 1795401122,
                "owned_by": self.owned_by,
                "root": "org/Smol",
            }
            card |= {"parent": None, "max_model_len": self.context_tokens} if self.context_tokens else {}
            return Refusal(200, json.dumps({"object": "list", "data": [card]}).encode())
        if asked.path == "/version" and self.version:
            return Refusal(200, json.dumps({"version": self.version}).encode())
        if asked.path == "/tokenize" and self.tokenizes:
            return Refusal(
                200, json.dumps({"count": _tokens(asked.body), "max_model_len": 2048, "tokens": []}).encode()
            )
        return Refusal(404, b'{"detail":"Not Found"}')

    def _is_stranger(self, asked: Asked) -> bool:
        return bool(self.key) and asked.headers.get("authorization") != f"Bearer {self.key}"

    async def _complete(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(asked)
        reply = Refusal(401, b'{"error":"Unauthorized"}') if self._is_stranger(asked) else self.reply(asked)
        if isinstance(reply, Refusal):
            writer.write(_head_of(reply) + f"content-length: {len(reply.body)}\r\n\r\n".encode() + reply.body)
            await writer.drain()
            return
        kind = "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n" + kind.encode())
        self.running += 1
        try:
            await self._stream(reply, reader, writer)
        finally:
            self.running -= 1

    async def _stream(
        self, reply: AsyncIterator[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A client that goes away is noticed at once, as uvicorn does."""
        gone = asyncio.ensure_future(reader.read(1))
        sending = asyncio.ensure_future(_send(reply, writer))
        await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done():
            self.left.set()
            sending.cancel()
            await asyncio.wait({sending})
            raise ConnectionResetError
        gone.cancel()
        await asyncio.wait({gone})
        sending.result()


def cut_off() -> bytes:
    """In `send`: the connection breaks here, without the end that HTTP wants."""
    raise _CutOff


async def _send(reply: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    async for piece in reply:
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(head[0].split()[1], headers, json.loads(body) if body else {})


def _head_of(refusal: Refusal) -> bytes:
    lines = "".join(f"{header}\r\n" for header in refusal.headers)
    return f"HTTP/1.1 {refusal.status} Some Reason\r\n{lines}".encode()


def _tokens(body: dict[str, Any]) -> int:
    """A token a byte, and two for each turn."""
    if "messages" in body:
        return sum(2 + len(turn["content"].encode()) for turn in body["messages"]) + 1
    return len(body["prompt"].encode()) + bool(body.get("add_special_tokens", True))


@asynccontextmanager
async def open_peer(**set_to: Any) -> AsyncIterator[Peer]:
    """A running peer."""
    peer = Peer(**set_to)
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()
