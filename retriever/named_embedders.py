"""The embedders of a retriever by name. The default one is open from the start, any other from when it is first needed."""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from mesh import logs
from mesh.access.tenants import public
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError
from retriever.batching import EmbeddingQueue
from retriever.embedding import Embedder

log = logs.get(__name__)

OpenEmbedder = Callable[[str], Embedder]
"""Opens the embedder of a name. Blocks, the first time for minutes. FailedPrecondition when it cannot be loaded."""


class NamedEmbedders:
    """Each with the queue that its callers share. Others than the default are opened once, in a thread."""

    def __init__(
        self,
        default: Embedder,
        others: Collection[str] = (),
        open_other: OpenEmbedder | None = None,
        max_waiting_texts: int = 16_384,
        leftovers: Path | None = None,
    ) -> None:
        """`leftovers` is the folder in which vectors that are not stored yet outlive this process."""
        self.default = default
        self._others, self._open_other = set(others) - {default.name}, open_other
        self._max_waiting, self._leftovers = max_waiting_texts, leftovers
        self._queues = {default.name: self._queue_of(default)}
        self._opening: dict[str, asyncio.Task[EmbeddingQueue]] = {}

    @property
    def names(self) -> list[str]:
        """The default one first."""
        return [self.default.name, *sorted(self._others)]

    async def queue(self, name: str = "", field: str = "embedder") -> EmbeddingQueue:
        """The queue of an embedder; empty is the default one. InvalidInput, naming the field, when there is none.

        FailedPrecondition when it is known and cannot be opened, as one that has not been pulled.
        """
        name = name or self.default.name
        if name not in self._queues:
            if name not in self._others:
                known = ", ".join(map(repr, self.names))
                raise InvalidInput(f"This retriever has no embedder {name[:100]!r}; it has {known}.", field=field)
            await self._open(name)
        return self._queues[name]

    async def of_index(self, name: str, version: str, index: str) -> EmbeddingQueue:
        """The queue of the embedder that made an index's vectors; FailedPrecondition when this retriever has none."""
        try:
            queue = await self.queue(name)
        except InvalidInput as error:
            raise self._other_vectors(name, version, index, ", ".join(self.names)) from error
        if queue.embedder.version != version:
            raise self._other_vectors(name, version, index, f"{name} ({queue.embedder.version})")
        return queue

    async def close(self) -> None:
        """Ends all of them after the runs that go on."""
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        await asyncio.gather(*(queue.close() for queue in self._queues.values()))

    async def _open(self, name: str) -> None:
        """A caller that leaves does not stop what others wait for."""
        task = self._opening.get(name)
        if task is None:
            task = self._opening[name] = asyncio.create_task(self._opened(name))
            task.add_done_callback(lambda _: self._opening.pop(name, None))
        await asyncio.shield(task)

    async def _opened(self, name: str) -> EmbeddingQueue:
        assert self._open_other is not None  # noqa: S101 - who names others says how they are opened
        try:
            embedder = await asyncio.to_thread(self._open_other, name)
        except MurpheyError:
            raise
        except Exception as error:
            raise FailedPrecondition(f"The embedder {name} cannot be opened: {str(error)[:300]}") from error
        log.info("embedder_opened", embedder=name, version=embedder.version)
        self._queues[name] = self._queue_of(embedder)
        return self._queues[name]

    def _queue_of(self, embedder: Embedder) -> EmbeddingQueue:
        kept = self._leftovers / f"{embedder.version[-40:]}.vectors" if self._leftovers else None
        return EmbeddingQueue(embedder, self._max_waiting, kept)

    @staticmethod
    def _other_vectors(name: str, version: str, index: str, mine: str) -> FailedPrecondition:
        return FailedPrecondition(
            f"The collection {public(index)!r} was embedded by {name} ({version}), and this retriever runs {mine}. Run it with "
            "that embedder, or ingest into a new collection."
        )
