"""One OpenAI-compatible server: what it serves, whether it is well, and the HTTP calls to it.

Its connections are its own. The key goes into the header of each call and nowhere else.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from generator.breaker import Breaker
from generator.engines.base import Opened, RemoteEnd, RemoteRequest, RemoteText
from generator.engines.fleet import RemoteServer, Served
from generator.engines.openai import dialects
from generator.engines.openai.chunks import ChunkReader
from generator.engines.openai.dialects import Dialect
from generator.engines.openai.faults import error_of, lost, refusal, said_in
from generator.requests import Prompt
from mesh.errors import FailedPrecondition, MurpheyError, Unavailable

_MOST_CONNECTIONS = 1_000
_MOST_REFUSAL_BYTES = 64 * 1024
_BRIEF_S = 5.0
"""For calls that generate nothing."""
_TOKENIZING = 16
"""Prompts that are counted at the same time."""
_COUNT_S = 30.0
"""A server that is busy generating counts slowly."""


@dataclass(frozen=True)
class ServerOptions:
    """How to talk to a server. `silence_s` without a byte ends a completion; `model` is what the server calls it."""

    model: str
    api_key: str | None
    dialect: str
    connect_s: float
    silence_s: float
    context_tokens: int | None
    revision: str

    def __repr__(self) -> str:
        return f"ServerOptions({self.model!r}, {self.dialect!r})"  # never the key


@dataclass(frozen=True, kw_only=True)
class OpenAIServed(Served):
    """And which kind of server it is."""

    dialect: Dialect


class Server(RemoteServer[OpenAIServed]):
    """One base URL, such as `http://gpu-1:8000/v1`. Its calls raise what `faults.py` makes of their failures."""

    def __init__(self, url: str, options: ServerOptions, breaker: Breaker) -> None:
        super().__init__(url, breaker)
        self._options, self._root = options, url.removesuffix("/v1")
        self._counting = asyncio.Semaphore(_TOKENIZING)
        key = options.api_key
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(options.silence_s, connect=options.connect_s),
            limits=httpx2.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=64),
            verify=ssl.create_default_context(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Ends its connections."""
        await self._client.aclose()

    async def check(self) -> None:
        """By its health page."""
        await self._get(self._health_url())

    async def count(self, prompt: Prompt, *, special: bool) -> int:
        """By its /tokenize."""
        what = {"messages": dialects.messages_of(prompt), "add_generation_prompt": True}
        if not prompt.chat:
            what = {"prompt": prompt.text, "add_special_tokens": special}
        async with self._counting:
            counted = await self._post(f"{self._root}/tokenize", {"model": self._options.model, **what}, prompt)
        count = counted.get("count")
        if not isinstance(count, int) or count < 0:
            raise Unavailable(f"The server {self.url} counted no tokens. Give the generator a tokenizer of its own.")
        return count

    async def run(self, request: RemoteRequest) -> AsyncGenerator[Opened | RemoteText | RemoteEnd]:
        """Streams a completion; leaving it closes the connection, which is how the server learns that no one listens."""
        assert self.served is not None  # noqa: S101 - only a server that was described is chosen
        version = self.served.version
        body = dialects.body_of(request, self.served.dialect, self._options.model)
        reader = ChunkReader(request, self.url)
        async with self._streamed(self.url + dialects.path_of(request), body, request) as response:
            yield Opened(version)
            async with aclosing(reader.texts(response)) as texts:
                async for text in texts:
                    yield text
        assert reader.finish is not None  # noqa: S101 - else `texts` has raised
        yield RemoteEnd(reader.finish, reader.usage, reader.counted is not None, version)

    @asynccontextmanager
    async def _streamed(
        self, url: str, body: dict[str, Any], request: RemoteRequest
    ) -> AsyncGenerator[httpx2.Response]:
        self.running += 1
        async with AsyncExitStack() as stack:
            stack.callback(self._ended)
            try:
                response = await stack.enter_async_context(self._client.stream("POST", url, json=body))
                if response.status_code != 200:
                    raise refusal(response, await _some(response), self.url, request)
                yield response
            except httpx2.HTTPError as error:
                raise lost(error, self.url) from error

    def _ended(self) -> None:
        self.running -= 1

    async def describe(self) -> OpenAIServed:
        """By its list of models."""
        listed = await self._get(f"{self.url}/models")
        cards = listed.get("data")
        cards = [card for card in cards if isinstance(card, dict)] if isinstance(cards, list) else []
        card = next((card for card in cards if card.get("id") == self._options.model), None)
        if card is None:
            names = ", ".join(str(card.get("id"))[:80] for card in cards[:10]) or "none"
            raise FailedPrecondition(f"The server {self.url} serves no {self._options.model!r}; it serves {names}.")
        version = await self._server_version()
        dialect = dialects.dialect_of(self._options.dialect, str(card.get("owned_by")), version)
        return OpenAIServed(
            self._version(card, dialect, version), self._context(card), dialect.fields,
            await self._offers_counting(), dialect.takes_ids, dialect=dialect,
        )  # fmt: skip

    def _context(self, card: dict[str, Any]) -> int:
        told, ours = card.get("max_model_len"), self._options.context_tokens
        if not isinstance(told, int) or told < 2:
            if ours is None:
                raise FailedPrecondition(
                    f"The server {self.url} does not tell the model's context. Set context_tokens for this model."
                )
            return ours
        return min(told, ours or told)

    def _version(self, card: dict[str, Any], dialect: Dialect, version: str) -> str:
        """Weights cannot be seen through a server: its name for them, and what the operator calls them."""
        parts = (str(card.get("root") or card.get("id")), self._options.revision, dialect.name, version)
        return "-".join(part for part in parts if part)

    async def _server_version(self) -> str:
        try:
            return str((await self._get(f"{self._root}/version")).get("version") or "")[:40]
        except FailedPrecondition:  # it has no such page
            return ""

    async def _offers_counting(self) -> bool:
        try:
            return await self.count(Prompt(text="a"), special=False) > 0
        except MurpheyError:
            return False

    def _health_url(self) -> str:
        path = self.served.dialect.health_path if self.served is not None else ""
        return self._root + path if path else f"{self.url}/models"

    async def _get(self, url: str) -> dict[str, Any]:
        return await self._brief(self._client.build_request("GET", url, timeout=_BRIEF_S), Prompt())

    async def _post(self, url: str, body: dict[str, Any], prompt: Prompt) -> dict[str, Any]:
        return await self._brief(self._client.build_request("POST", url, json=body, timeout=_COUNT_S), prompt)

    async def _brief(self, request: httpx2.Request, prompt: Prompt) -> dict[str, Any]:
        """The JSON object of an answer; empty for an answer without one, such as of /health."""
        context = RemoteRequest(prompt, 1)
        try:
            response = await self._client.send(request)
        except httpx2.HTTPError as error:
            raise lost(error, self.url) from error
        if response.status_code != 200:
            raise refusal(response, response.content[:_MOST_REFUSAL_BYTES], self.url, context)
        try:
            answer = response.json() if response.content else {}
        except ValueError:
            answer = {}
        if said := said_in(answer):
            raise error_of(said, self.url, context)
        return answer if isinstance(answer, dict) else {}


async def _some(response: httpx2.Response) -> bytes:
    """The body of a refusal, not more of it than anyone writes."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _MOST_REFUSAL_BYTES:
            break
    return body
