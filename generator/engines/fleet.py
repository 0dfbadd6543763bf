"""One model on one or several servers, which share its requests: what all remote engines do alike.

A request goes to the server with the fewest running ones among those that are well; one that has brought no text yet moves
on to the next server when its own fails. Every few seconds each server is asked how it is. What is said to a server, and how
its answers are read, is its own (`openai/server.py`, `triton/server.py`).
"""

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

from generator.breaker import Attempt, Breaker
from generator.engines.base import EngineInfo, EngineState, Opened, RemoteEnd, RemoteRequest, RemoteText
from generator.requests import Prompt
from mesh import logs, metrics
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, Overloaded, Unavailable
from mesh.settings import is_loopback

log = logs.get(__name__)

_FAILED = metrics.counter(
    "generator_server_failures", "Requests that a model's server failed or refused, by its URL.", ("server", "reason")
)
_UNUSABLE = metrics.counter(
    "generator_server_unusable",
    "Times that a model's server was found unusable when asked how it is, and was well before or unusable otherwise.",
    ("server", "reason"),
)
_MISSES = 2
"""Looks in a row that must fail before a server that was well is left out: a busy one may miss one. Requests move on anyway."""


@dataclass(frozen=True)
class Served:
    """What a server said of the model. `context_tokens` is for prompt and completion together."""

    version: str
    context_tokens: int
    fields: frozenset[str]
    counts: bool = False
    takes_ids: bool = False


S = TypeVar("S", bound=Served)


class RemoteServer(ABC, Generic[S]):
    """One server, by its URL. Its breaker, its load and a pause that it asked for are here for who chooses among several."""

    def __init__(self, url: str, breaker: Breaker) -> None:
        self.url, self.breaker = url, breaker
        self.served: S | None = None
        self.fault: MurpheyError | None = Unavailable(f"The server {url} was not asked yet.")
        """Why it cannot be used now."""
        self._misses = 0
        self.running = 0
        self.spared_until = 0.0

    @abstractmethod
    async def close(self) -> None:
        """Ends its connections."""

    @abstractmethod
    async def describe(self) -> S:
        """Asks what it serves. A MurpheyError says why it cannot be used."""

    @abstractmethod
    async def check(self) -> None:
        """Asks whether it is well; so does the error."""

    @abstractmethod
    def run(self, request: RemoteRequest) -> AsyncGenerator[Opened | RemoteText | RemoteEnd]:
        """See `base.RemoteEngine.run`."""

    async def count(self, prompt: Prompt, *, special: bool) -> int:
        """Tokens of a prompt. Only of a server whose `served.counts`."""
        raise NotImplementedError

    async def look(self) -> None:
        """Asks how it is, and first of all what it serves, also when it was away since; sets `fault`."""
        try:
            if self.served is not None and self.fault is None:
                await self.check()
            else:
                self.served = await self.describe()
            self.fault, self._misses = None, 0
        except MurpheyError as error:
            self._misses += 1
            if self.fault is not None or self._misses >= _MISSES:
                self.fault = error

    def spare(self, seconds: float) -> None:
        """Others are asked first for so long."""
        self.spared_until = time.monotonic() + seconds


class Fleet:
    """Implements `base.RemoteEngine`. `async with engine:` asks all servers once, then watches them.

    `tell_ready` is called with whether any server can be used, each time that this changes.
    """

    def __init__(
        self,
        name: str,
        servers: Sequence[RemoteServer[Any]],
        look_every_s: float,
        tell_ready: Callable[[bool], None] = lambda ready: None,
        *,
        takes_chat: bool = True,
    ) -> None:
        self.name, self.takes_chat = name, takes_chat
        self._servers = list(servers)
        self._tell_ready, self._look_every_s = tell_ready, look_every_s
        self._turn = itertools.count()
        self._watch: asyncio.Task[None] | None = None
        self.state = EngineState.LOADING
        self.state_message = "its servers were not asked yet"

    async def __aenter__(self) -> Self:
        await self.look()
        self._watch = asyncio.create_task(self._look_often(), name="model servers")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        for server in self._servers:
            await server.close()

    @property
    def info(self) -> EngineInfo | None:
        """What all servers that have answered can do."""
        served = [server.served for server in self._servers if server.served is not None]
        if not served:
            return None
        fields = frozenset.intersection(*(one.fields for one in served))
        context = min(one.context_tokens for one in served)
        well = next((server.served for server in self._servers if server.served and not server.fault), served[0])
        return EngineInfo(self.name, well.version, context, 0, fields)

    @property
    def counts(self) -> bool:
        """Whether a server that is well counts tokens."""
        return any(server.served.counts for server in self._servers if server.served and not server.fault)

    @property
    def takes_ids(self) -> bool:
        """Whether a prompt may be token ids, on every server."""
        served = [server.served for server in self._servers if server.served]
        return bool(served) and all(one.takes_ids for one in served)

    async def count(self, prompt: Prompt, *, special: bool) -> int:
        """By the first server that can."""
        fault: MurpheyError = FailedPrecondition(
            "This model's servers do not count tokens. Set tokenizer for the model: a folder, a GGUF file or a hub id."
        )
        for server in self._in_order():
            if server.served is None or not server.served.counts:
                continue
            try:
                return await server.count(prompt, special=special)
            except Unavailable as error:
                fault = error
        raise fault

    async def run(self, request: RemoteRequest) -> AsyncGenerator[Opened | RemoteText | RemoteEnd]:
        """See `base.RemoteEngine.run`."""
        faults: list[MurpheyError] = []
        for server in self._in_order():
            attempt = server.breaker.enter()
            if attempt is None:
                faults.append(_resting(server))
                continue
            spoke = False
            with attempt:
                try:
                    async with aclosing(server.run(request)) as news:
                        async for new in news:
                            if not isinstance(new, Opened):
                                spoke = True
                                attempt.succeeded()
                            yield new
                    return
                except MurpheyError as error:
                    self._failed(server, attempt, error)
                    if spoke or isinstance(error, InvalidInput):
                        raise
                    faults.append(error)
        raise _together(faults or [server.fault for server in self._servers if server.fault])

    async def look(self) -> None:
        """Asks each server how it is."""
        before = {server.url: str(server.fault or "") for server in self._servers}
        await asyncio.gather(*(server.look() for server in self._servers))
        for server in self._servers:
            fault = server.fault
            if before[server.url] != (reason := str(fault or "")):
                log.info("model_server", server=server.url, well=not reason, reason=reason)
                if fault is not None:
                    _UNUSABLE.labels(server.url, fault.reason.lower()).inc()
        self._settle()

    def _settle(self) -> None:
        faults = [server.fault for server in self._servers if server.fault is not None]
        if len(faults) < len(self._servers):
            state = EngineState.READY
        elif all(isinstance(fault, FailedPrecondition) for fault in faults):
            state = EngineState.FAILED
        else:
            state = EngineState.LOADING
        ready_changed = (state is EngineState.READY) is not (self.state is EngineState.READY)
        self.state = state
        self.state_message = " ".join(fault.message for fault in faults) if state is not EngineState.READY else ""
        if ready_changed:
            self._tell_ready(state is EngineState.READY)

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(self._look_every_s)
            try:
                await self.look()
            except Exception:  # an answer that nobody foresaw must not end the watch over all servers
                log.exception("model_servers_not_asked", engine=self.name)

    def _in_order(self) -> list[RemoteServer[Any]]:
        """Those that are well, the least busy first; among equals each is first in its turn."""
        now, turn = time.monotonic(), next(self._turn)
        well = [server for server in self._servers if server.fault is None and server.served is not None]
        turned = well[turn % len(well) :] + well[: turn % len(well)] if well else []
        return sorted(turned, key=lambda server: (server.spared_until > now, server.running))

    def _failed(self, server: RemoteServer[Any], attempt: Attempt, error: MurpheyError) -> None:
        """A server that refuses a request for its content, or for its load, is well."""
        _FAILED.labels(server.url, error.reason.lower()).inc()
        if isinstance(error, InvalidInput | Overloaded):
            attempt.succeeded()
        else:
            attempt.failed()
        if isinstance(error, InvalidInput):
            return
        if error.retry_after_s and isinstance(error, Overloaded):
            server.spare(error.retry_after_s)
        log.warning("model_server_failed", server=server.url, reason=error.reason, message=error.message)


def warn_of_clear_keys(urls: Sequence[str], key: str | None) -> None:
    """A key that goes over a network unencrypted can be read on the way."""
    for url in urls:
        parts = urlsplit(url)
        if key and parts.scheme in ("http", "grpc") and not is_loopback(parts.hostname or ""):
            advice = "use TLS (https, grpcs), or a network that no one else listens to"
            log.warning("key_in_clear", server=url, advice=advice)


def _resting(server: RemoteServer[Any]) -> Unavailable:
    wait_s = max(server.breaker.wait_s, 0.1)
    message = f"The server {server.url} has failed several times and is left alone for {wait_s:.1f} s."
    return Unavailable(message, retry_after_s=wait_s)


def _together(faults: Sequence[MurpheyError]) -> MurpheyError:
    """One of them stands for all: being full is the mildest, and passes soonest."""
    if not faults:
        return Unavailable("No server of this model can be used.")
    mildest = next((fault for fault in faults if isinstance(fault, Overloaded)), None)
    mildest = mildest or next((fault for fault in faults if isinstance(fault, Unavailable)), faults[0])
    waits = [fault.retry_after_s for fault in faults if fault.retry_after_s]
    message = " ".join(dict.fromkeys(fault.message for fault in faults))
    return type(mildest)(message, retry_after_s=min(waits, default=None))
