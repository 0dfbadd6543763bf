"""Reads a streamed completion: server-sent events to text, usage and the reason of the end.

A stream that closes without `data: [DONE]` was cut off, whatever came before: that is an error, never an end.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx2

from generator.engines.base import RemoteRequest, RemoteText
from generator.engines.openai.faults import error_of, said_in
from generator.requests import FinishReason, Usage
from mesh.errors import FailedPrecondition, MurpheyError, Unavailable

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_DONE = "[DONE]"


class ChunkReader:
    """One completion. After `texts` has ended, `finish` and `usage` tell how."""

    def __init__(self, request: RemoteRequest, server: str) -> None:
        self._request, self._server = request, server
        self._steps_seen = 0
        self.finish: FinishReason | None = None
        self.counted: Usage | None = None
        """The usage as the server told it last; None until it has."""

    @property
    def usage(self) -> Usage:
        """As told, or else with a token for each chunk that brought text."""
        return self.counted or Usage(0, 0, self._steps_seen)

    async def texts(self, response: httpx2.Response) -> AsyncGenerator[RemoteText]:
        """The text as it comes. Unavailable when the stream is cut off; as `error_of` when the server says an error."""
        response.encoding = "utf-8"  # the only one of server-sent events
        events: AsyncIterator[httpx2.ServerSentEvent] = aiter(httpx2.EventSource(response))
        async with aclosing(events):  # pyright: ignore[reportArgumentType] - it is a generator
            async for event in events:
                if event.data == _DONE:
                    if self.finish is None:
                        raise self._broken("ended a completion without saying why")
                    return
                if event.data and (text := self._read(self._chunk(event))):
                    yield text
        raise self._broken("cut a completion off")

    def _chunk(self, event: httpx2.ServerSentEvent) -> dict[str, Any]:
        try:
            chunk = json.loads(event.data)
        except ValueError:
            chunk = None
        if not isinstance(chunk, dict):
            raise self._broken("sent an event that is no JSON object")
        if said := said_in(chunk):
            raise error_of(said, self._server, self._request)
        if event.event == "error":
            raise self._broken("sent an error in the middle of a completion")
        return chunk

    def _read(self, chunk: dict[str, Any]) -> RemoteText | None:
        """Every key may be missing: servers leave out what is not set."""
        before = self.usage.completion
        choice = next((one for one in _dicts(chunk.get("choices")) if not one.get("index")), {})
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
        text = text if isinstance(text, str) else ""
        self._steps_seen += bool(text)
        if isinstance(usage := chunk.get("usage"), dict):
            self.counted = _usage(usage)
        if (reason := choice.get("finish_reason")) is not None:
            self.finish = self._reason(str(reason))
        return RemoteText(text, max(0, self.usage.completion - before)) if text else None

    def _reason(self, reason: str) -> FinishReason:
        if reason == "content_filter":
            message = f"The server {self._server} withholds the completion: its content filter says no."
            raise FailedPrecondition(message)
        if reason not in _REASONS:
            raise self._broken(f"ended a completion with {reason[:40]!r}")
        return _REASONS[reason]

    def _broken(self, what: str) -> MurpheyError:
        return Unavailable(f"The server {self._server} {what}. Try again.")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _usage(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Usage(_count(usage.get("prompt_tokens")), _count(cached), _count(usage.get("completion_tokens")))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0
