"""What `murphey ingest` is told to do, and one pass of doing it: find, compare, send, remove."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.gathering import Gatherer
from ingest.labels import Labels
from ingest.sending import Sender
from ingest.sources import Source
from ingest.syncing import Sync, check_not_empty


@dataclass(frozen=True)
class Order:
    """What to do with which places. `collection` is a resource name."""

    places: Sequence[str]
    collection: str
    prefix: str
    labels: Labels
    sync: bool = False
    force: bool = False

    async def find(self, gatherer: Gatherer) -> list[Source]:
        """All sources with their metadata. InvalidInput when a folder that is to be synchronised seems to be empty."""
        sources = self.labels.put_on(await gatherer.find(), self.prefix)
        if self.sync and not self.force:
            check_not_empty(sources, self.places)
        return sources

    async def expect(self, sender: Sender, sources: Sequence[Source]) -> None:
        """Reports what would become of each document, and changes nothing."""
        async for step in sender.planner.steps(sources):
            sender.report(step.expected())
        if self.sync:
            sync = self._sync(sender)
            for document in await sync.vanished(sources):
                sender.report(sync.expected(document))

    async def carry_out(self, sender: Sender, sources: Sequence[Source]) -> None:
        """Sends, and then removes what has vanished, so that a renamed file is never missing."""
        await sender.send(sources)
        if self.sync:
            sync = self._sync(sender)
            await sync.remove(await sync.vanished(sources), sender.report)

    def _sync(self, sender: Sender) -> Sync:
        return Sync(sender.stub, self.collection, self.prefix, self.places[0].rstrip("/") + "/", sender.patience)
