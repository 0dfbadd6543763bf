"""Orders passages by how well they answer a question: what a reranker is, and the ones that a retriever has, by name.

The rerankers that exist are in rerankers/; only app.py chooses. One is opened when it is first asked for.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mesh import logs
from mesh.errors import InvalidInput, MurpheyError, Overloaded, Unavailable
from mesh.metrics import counter, gauge, histogram

log = logs.get(__name__)

MAX_WAITING_TEXTS = 2_000
"""Texts that may wait for one reranker before calls are refused."""

_waiting = gauge("rerank_waiting_texts", "Texts that wait to be reranked, or are being.", ("reranker",))
_reranked = counter("reranked_texts", "Texts that were reranked.", ("reranker",))
_time = histogram("rerank_seconds", "Time of a call to a reranker, waiting included.", ("reranker",))


@dataclass(frozen=True, slots=True)
class Blend:
    """How a reranker's scores and the search's become one order."""

    search_weight: float = 0.0
    """What a search's score counts beside the reranker's, both brought to 0 to 1."""
    spread: float = 0.0
    """How much of its score a passage gets from those that are like it, 0 to 1 (diffusion.py)."""


class Reranker(Protocol):
    """Says how well each text answers a question."""

    @property
    def name(self) -> str:
        """How calls name it."""
        ...

    @property
    def version(self) -> str:
        """Changes when the same text could get another score."""
        ...

    @property
    def blend(self) -> Blend:
        """How its scores are used in a search."""
        ...

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """A score for each text, higher is better. A caller that leaves takes its texts with it. Unavailable when the
        reranker ended meanwhile."""
        ...

    async def close(self) -> None:
        """Frees what it holds."""
        ...


OpenReranker = Callable[[str], Awaitable[Reranker]]
"""Opens the reranker of a name, the first time maybe for minutes. FailedPrecondition when it cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A score for each text, in the order of the texts."""

    scores: list[float]
    blend: Blend
    reranker: str
    """Its name and version, as name@version."""
    seconds: float


class Rerankers:
    """The rerankers of a retriever, the default one first. Each has a bounded number of texts that wait for it."""

    def __init__(
        self, names: Sequence[str], open_one: OpenReranker, max_waiting_texts: int = MAX_WAITING_TEXTS
    ) -> None:
        self.names = list(dict.fromkeys(names))
        self._open_one, self._max_waiting = open_one, max_waiting_texts
        self._opened: dict[str, asyncio.Task[Reranker]] = {}
        self._waiting = dict.fromkeys(self.names, 0)

    def named(self, name: str, field: str = "reranker") -> str:
        """The full name, the default one for an empty name. InvalidInput, listing those that there are, for an unknown one."""
        if name and name not in self.names:
            known = ", ".join(map(repr, self.names))
            raise InvalidInput(f"This retriever has no reranker {name[:100]!r}; it has {known}.", field=field)
        return name or self.names[0]

    async def judge(self, question: str, texts: Sequence[str], name: str = "", field: str = "reranker") -> Judged:
        """Scores of the texts.

        InvalidInput, naming the field, for an unknown reranker, FailedPrecondition for one that cannot be loaded, Overloaded
        when too many texts wait for it.
        """
        started_s = time.perf_counter()
        name = self.named(name, field)
        if self._waiting[name] and self._waiting[name] + len(texts) > self._max_waiting:
            raise Overloaded(f"{self._waiting[name]} texts wait to be reranked already. Try again in a moment.")
        self._count(name, len(texts))
        try:
            reranker = await self._reranker(name)
            scores = await reranker.scores(question, texts)
        finally:
            self._count(name, -len(texts))
        if not np.isfinite(scores).all():
            raise Unavailable(f"The reranker {name} gave scores that are no numbers; it may be broken.")
        seconds = time.perf_counter() - started_s
        _reranked.labels(name).inc(len(texts))
        _time.labels(name).observe(seconds)
        return Judged(scores, reranker.blend, f"{name}@{reranker.version}", seconds)

    async def close(self) -> None:
        """Ends all of them."""
        for opened in await asyncio.gather(*self._opened.values(), return_exceptions=True):
            if not isinstance(opened, BaseException):
                await opened.close()

    async def _reranker(self, name: str) -> Reranker:
        """A caller that leaves does not stop what others wait for; one that could not be opened is tried again."""
        task = self._opened.get(name)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._opened[name] = asyncio.create_task(self._open(name))
        return await asyncio.shield(task)

    async def _open(self, name: str) -> Reranker:
        try:
            reranker = await self._open_one(name)
        except MurpheyError as error:
            log.error("reranker_not_opened", reranker=name, error=error.message)
            raise
        log.info("reranker_opened", reranker=name, version=reranker.version)
        return reranker

    def _count(self, name: str, texts: int) -> None:
        self._waiting[name] += texts
        _waiting.labels(name).inc(texts)
