"""What a servicer under test needs to move collections, and a retriever's stores between which they are moved."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import AsyncQdrantClient

from retriever.catalog import Catalog, FileCatalog
from retriever.collections import Collections
from retriever.moving.mover import Mover, Progress
from retriever.moving.state import MoveFiles
from retriever.named_embedders import NamedEmbedders
from retriever.placing import PlacedCatalog
from retriever.service import Stored
from retriever.sparse import words_of
from retriever.stores.base import Hit, IndexedChunk, Mode, Page, Store, StoreQuery
from retriever.stores.edge.store import EdgeStore
from retriever.stores.placed import PlacedStore
from retriever.stores.server.catalog import ServerCatalog
from retriever.stores.server.store import ServerStore
from tests.retriever.fakes import WordsEmbedder, chunk, indexed, vector_of

WORDS = ["anchor", "basil", "copper", "dune", "ember", "flint", "grove", "harbor", "iris", "juniper", "kelp", "lantern"]


def stored_in(name: str, store: Store, collections: Collections, folder: Path) -> Stored:
    """A store without another one to move to."""
    placed = PlacedStore(name, {name: lambda: store})
    return Stored(placed, Mover(collections, placed, MoveFiles(folder / "moves")))


@dataclass
class Retriever:
    """What one process has open; `reopened` is the next one."""

    store: PlacedStore
    catalog: PlacedCatalog
    collections: Collections
    mover: Mover
    server: Catalog
    embedder: WordsEmbedder
    index: str = ""

    async def put(self, *numbers: int, version: str = "1", staged: bool = False) -> None:
        items: list[IndexedChunk] = []
        for number in numbers:
            words = [WORDS[(number * 7 + place * (number + 3)) % len(WORDS)] for place in range(6)]
            text = " ".join([*words, f"n{number}", version])
            items.append(indexed(chunk(text, f"d{number}", version, 0, {"number": float(number)})))
        await self.store.upsert(self.index, items, staged=staged)

    async def ask(self, text: str) -> list[Hit]:
        query = StoreQuery(Mode.HYBRID, 10, vector_of(text).tolist(), words_of("english").of_query(text))
        return await self.store.search(self.index, query)

    async def move(self, target: str, *, agreement: float = 0.99) -> list[Progress]:
        moving = self.mover.move("default", target, questions_asked=50, least_agreement=agreement)
        return [progress async for progress in moving]

    async def there(self, name: str) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        for staged in (False, True):
            page = Page([], "")
            while True:
                page = await self.store.named(name).page(self.index, staged=staged, after=page.after)
                found |= {(item.chunk.document.rpartition("/")[2], item.chunk.version) for item in page.chunks}
                if not page.after:
                    break
        return found


class KeptServer(ServerStore):
    """Of a client that outlives the process."""

    async def close(self) -> None:
        pass


@asynccontextmanager
async def opened(tmp_path: Path, client: AsyncQdrantClient) -> AsyncIterator[Retriever]:
    """A process of its own, as far as the stores know."""
    edge = await EdgeStore.open(tmp_path / "indexes")
    store = PlacedStore("edge", {"edge": lambda: edge, "server": lambda: KeptServer(client)})
    store.named("edge")
    server = ServerCatalog(client)
    catalog = PlacedCatalog(FileCatalog(tmp_path / "catalog.json"), lambda: server, store)
    embedder = WordsEmbedder()
    embedders = NamedEmbedders(embedder, [], lambda _: embedder)
    collections = Collections(catalog, store, embedders)
    await collections.open()
    mover = Mover(collections, store, MoveFiles(tmp_path / "moves"))
    await mover.open()
    record = await collections.get("default")
    try:
        yield Retriever(store, catalog, collections, mover, server, embedder, record.index)
    finally:
        await mover.close()
        await embedders.close()
        await store.close()
