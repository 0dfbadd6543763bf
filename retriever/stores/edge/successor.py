"""A rebuilt shard in a process of its own, beside the live one: catches up with the journal, then takes the index over.

Opening a shard holds Python's GIL for up to half a second; here nobody waits for it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from mesh import logs
from retriever.stores.edge.index import JOURNAL, Index, Limits, Loaded
from retriever.stores.edge.journal import Follower
from retriever.stores.edge.operations import updates
from retriever.stores.edge.shard import Shard

log = logs.get(__name__)


class Successor:
    """Until it takes over, the live shard's process is untouched, and the end of this one costs nothing but the work."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        shard = Shard.load(folder / name)
        self._loaded = Loaded(name, shard, never_indexed=shard.sizes()[1])
        self._follower = Follower(folder / JOURNAL)

    def catch_up(self) -> Iterator[None]:
        """Applies what was written since the shard was copied, in steps. All but the last, short part is flushed."""
        yield from self._drain()
        self._loaded.shard.flush()
        yield from self._drain()

    def take_over(self, limits: Limits, announce: Callable[[str], None]) -> Index:
        """The other process has retired: from here on this shard is the index.

        A crash before the pointer is renamed leaves the old shard, which has everything too.
        """
        for _ in self._drain():
            pass
        index = Index.adopt(self._folder, limits, announce, self._loaded)
        points, unindexed = self._loaded.shard.sizes()
        log.info("rebuild_done", index=self._folder.name, points=points, unindexed=unindexed)
        return index

    def _drain(self) -> Iterator[None]:
        for operation in self._follower.new():
            try:
                for update in updates(operation):
                    self._loaded.shard.apply(update)
                    yield
            except Exception as error:  # as it failed in the live process, which told the caller
                log.error("operation_failed", index=self._folder.name, error=str(error)[:500])
