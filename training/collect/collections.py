"""A collection of a running mesh: the parsed texts of its documents, by the ingest service's RPCs."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from ingest.cli_documents import ingest_stub
from mesh.errors import FailedPrecondition, NotFound
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from murphey.retriever.v1.retriever_pb2 import Span
from training.collect.collectors import Found, Position
from training.records import Record

TIMEOUT_S = 60.0
PART_CHARACTERS = 1_000_000
_LICENCE_KEYS = ("licence", "license")
_PAGE = 500


class Collection:
    """A collection as a collector. A document's own `licence` in its metadata goes before the one that is given."""

    name = "collection"

    def __init__(self, collection: str, licence: str, data: Path, target: str | None) -> None:
        self._collection, self._licence, self._data, self._target = collection, licence, data, target
        self._count = 0

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"collection": self._collection, "licence": self._licence}

    @property
    def total(self) -> int | None:
        return self._count

    def check(self) -> int:
        """NotFound when the collection has no documents that are live."""
        with asyncio.Runner() as runner:
            self._count, characters = runner.run(self._measure())
        if not self._count:
            raise NotFound(f"The collection {self._collection} has no documents. See `murphey documents list`.")
        return characters // 2

    async def _measure(self) -> tuple[int, int]:
        async with ingest_stub(self._data, self._target) as stub:
            lengths = [document.text_length async for document in self._listed(stub)]
        return len(lengths), sum(lengths)

    def find(self, after: Position) -> Iterator[Found]:
        with asyncio.Runner() as runner:
            found = self._found(str(after) if after is not None else "")
            try:
                while (each := runner.run(_next(found))) is not None:
                    yield each
            finally:
                runner.run(found.aclose())

    async def _found(self, after: str) -> AsyncGenerator[Found, None]:
        """Documents come by display name, in the order in which names compare on the server."""
        passed, number = not after, 0
        async with ingest_stub(self._data, self._target) as stub:
            async for document in self._listed(stub):
                number += 1
                if not passed:
                    passed = document.name == after
                    continue
                try:
                    text = await _text(stub, document)
                except (NotFound, FailedPrecondition):
                    yield Found(document.name, dropped="went away", done=number)
                    continue
                if text.strip():
                    yield Found(document.name, self._record(document, text), done=number)
                else:
                    yield Found(document.name, dropped="no text", done=number)
        if not passed:
            raise FailedPrecondition(
                f"The document at which to go on is no longer in {self._collection}; collect it anew."
            )

    async def _listed(self, stub: IngestServiceStub) -> AsyncGenerator[pb.Document, None]:
        request = pb.ListDocumentsRequest(
            parent=f"collections/{self._collection}", page_size=_PAGE, state=pb.DOCUMENT_STATE_LIVE
        )
        while True:
            response = await stub.ListDocuments(request, timeout=TIMEOUT_S)
            for document in response.documents:
                yield document
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def _record(self, document: pb.Document, text: str) -> Record:
        known = MessageToDict(document.metadata)
        licence = next((str(known[key]) for key in _LICENCE_KEYS if known.get(key)), self._licence)
        metadata = {"name": document.display_name, "version": document.version, "media_type": document.media_type}
        source = str(known.get("source") or f"murphey:{document.name}")
        return Record(f"murphey/{document.name}", text, source, licence, document.update_time.ToJsonString(), metadata)


async def _text(stub: IngestServiceStub, document: pb.Document) -> str:
    """The whole text of one version, part by part."""
    parts: list[str] = []
    start, length = 0, document.text_length
    while start < length:
        span = Span(start=start, end=min(start + PART_CHARACTERS, length))
        request = pb.GetDocumentTextRequest(name=document.name, span=span, version=document.version)
        parts.append((await stub.GetDocumentText(request, timeout=TIMEOUT_S)).text)
        start = span.end
    return "".join(parts)


async def _next(found: AsyncGenerator[Found, None]) -> Found | None:
    return await anext(found, None)
