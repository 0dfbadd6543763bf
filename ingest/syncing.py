"""Makes a collection equal to folders: what is no longer there is removed, as far as it was called as they call things."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from ingest.patience import Patience
from ingest.results import Result
from ingest.sources import Source
from mesh.errors import InvalidInput, MurpheyError, NotFound, translated
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

REMOVED_AT_ONCE = 8
LIST_TIMEOUT_S, REMOVE_TIMEOUT_S = 30.0, 120.0


@dataclass(frozen=True)
class Sync:
    """The documents of one collection whose name begins with `prefix`. `place` is where the folder is, to name files by."""

    stub: IngestServiceStub
    collection: str
    prefix: str
    place: str
    patience: Patience

    async def vanished(self, sources: Sequence[Source]) -> list[pb.Document]:
        """Documents that no source is called like. What a source hides may still be there, and so may what has a problem."""
        names = {source.display_name for source in sources}
        hidden = tuple(
            source.display_name.rstrip("/") + "/" for source in sources if source.hides and source.display_name
        )
        hides_all = any(source.hides and source.display_name in ("", self.prefix) for source in sources)
        if hides_all:
            return []
        return [
            document
            async for document in self._documents()
            if not document.archive  # a member comes and goes with its archive
            and document.display_name not in names
            and not document.display_name.startswith(hidden)
        ]

    async def remove(self, documents: Sequence[pb.Document], report: Callable[[Result], None]) -> None:
        """Deletes documents; one that cannot be deleted is reported as failed."""
        places = asyncio.Semaphore(REMOVED_AT_ONCE)

        async def remove(document: pb.Document) -> None:
            async with places:
                report(await self._remove(document))

        await asyncio.gather(*(remove(document) for document in documents))

    def expected(self, document: pb.Document) -> Result:
        """What removing it would give."""
        path = self.place + document.display_name.removeprefix(self.prefix)
        return Result(path, document.display_name, "removed", document.chunk_count, None)

    async def _remove(self, document: pb.Document) -> Result:
        expected = self.expected(document)
        try:
            await self.patience(lambda: self._delete(document.name))
        except NotFound:
            return expected
        except MurpheyError as error:
            return Result(expected.path, expected.document, "failed", 0, f"It cannot be removed: {error.message}")
        return expected

    async def _delete(self, name: str) -> None:
        with translated("ingest service"):
            await self.stub.DeleteDocument(pb.DeleteDocumentRequest(name=name), timeout=REMOVE_TIMEOUT_S)

    async def _documents(self) -> AsyncIterator[pb.Document]:
        request = pb.ListDocumentsRequest(parent=self.collection, page_size=1000, display_name_prefix=self.prefix)
        while True:
            response = await self.patience(lambda: self._list(request))
            for document in response.documents:
                yield document
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def _list(self, request: pb.ListDocumentsRequest) -> pb.ListDocumentsResponse:
        with translated("ingest service"):
            return await self.stub.ListDocuments(request, timeout=LIST_TIMEOUT_S)


def check_not_empty(sources: Sequence[Source], given: Sequence[str]) -> None:
    """InvalidInput when a folder is empty or cannot be read: everything in the collection would seem to have vanished."""
    for place in given:
        found = [
            source for source in sources if source.path == place or source.path.startswith(place.rstrip("/") + "/")
        ]
        if not found:
            raise InvalidInput(
                f"{place} holds no file. To remove all that was ingested from there, say --sync with --force."
            )
        unreadable = next(
            (source for source in found if source.hides and source.path.rstrip("/") == place.rstrip("/")), None
        )
        if unreadable:
            raise InvalidInput(f"{place}: {unreadable.problem}. Nothing was removed.")
