"""What people do with documents: upload, read, delete; and with jobs: cancel, try again, watch."""

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from ingest.catalog import Catalog, has_index, index_key
from ingest.documents import Document, NewUpload, Version, check_sha256
from ingest.index.chunk_index import ChunkIndex
from ingest.job_watch import JobWatch
from ingest.jobs import Job
from ingest.pipeline import Pipeline
from ingest.places import Place
from ingest.registration import Registered, Registration, StoredUpload
from ingest.relabelling import Relabelling
from ingest.removal import Removal
from ingest.space import Space
from ingest.storage import Storage
from ingest.texts import TextIndex, decode_range
from ingest.uploads import Uploads
from mesh.access.tenants import public
from mesh.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound, Overloaded, Unavailable

MAX_TEXT_CHARACTERS = 1_000_000
KNOWN_COLLECTION_S = 30.0
COUNT_JOBS_EVERY_S = 1.0
CACHED_INDEXES = 64


@dataclass(frozen=True)
class TextSpan:
    """A piece of a document's parsed text."""

    text: str
    start: int
    end: int
    text_length: int
    version: str
    place: Place


class Library:
    """The documents of all collections."""

    def __init__(
        self, catalog: Catalog, registration: Registration, job_watch: JobWatch, storage: Storage, uploads: Uploads,
        index: ChunkIndex, pipeline: Pipeline, relabelling: Relabelling, removal: Removal, wake: Callable[[], None],
        max_waiting_jobs: int, space: Space,
    ) -> None:  # fmt: skip
        self.catalog = catalog
        self._registration = registration
        self._job_watch = job_watch
        self._storage = storage
        self._uploads = uploads
        self._index = index
        self._pipeline = pipeline
        self._relabelling = relabelling
        self._removal = removal
        self._wake = wake
        self._max_waiting_jobs = max_waiting_jobs
        self._space = space
        self._waiting_jobs = (0, -COUNT_JOBS_EVERY_S)
        self._known_collections: dict[str, float] = {}
        self._indexes: OrderedDict[str, TextIndex] = OrderedDict()

    async def upload(self, upload: NewUpload, size_bytes: int, sha256: str, pieces: AsyncIterator[bytes]) -> Registered:
        """Stores a document and queues its job; answers before the bytes where they are live already."""
        check_sha256(sha256, "header.sha256")
        self._uploads.check_size(size_bytes)
        await self._check_collection(upload.collection)
        if sha256 and (unchanged := await self._registration.unchanged(upload, sha256.lower())):
            return unchanged
        if sha256 and (relabelled := await self._relabelling.relabel(upload, sha256.lower())):
            return relabelled
        await self._check_queue()
        await self._space.check(upload.collection, size_bytes)
        async with self._uploads.received(upload, size_bytes, sha256, pieces) as stored:
            if not sha256 and (relabelled := await self._relabel(stored)):
                return relabelled
            await self._space.check(upload.collection, stored.size_bytes)
            registered = await self._registration.register(stored)
            self._space.taken(upload.collection, stored.size_bytes)
        self._wake()
        return registered

    async def _relabel(self, stored: StoredUpload) -> Registered | None:
        """The upload's bytes, whose hash was not announced, may be live with other metadata; then they are kept already."""
        if unchanged := await self._registration.unchanged(stored.upload, stored.sha256):
            relabelled = unchanged
        else:
            relabelled = await self._relabelling.relabel(stored.upload, stored.sha256)
        if relabelled:
            await self._storage.delete([stored.raw_key])
        return relabelled

    async def delete(self, collection: str, document: str) -> int:
        """Deletes a document everywhere, with its members where it is an archive; answers how many chunks went."""
        found = await self.catalog.document(collection, document)
        deleted = await self._removal.remove(collection, [found.id])
        await self._pipeline.purge()
        return deleted

    async def text(self, collection: str, document: str, span: tuple[int, int] | None, version: str) -> TextSpan:
        """A span of the live version's text; without one, as much as an answer takes."""
        live = await self._live(collection, document, version)
        start, end = span if span is not None else (0, min(live.text_length, MAX_TEXT_CHARACTERS))
        if not 0 <= start <= end <= live.text_length:
            raise InvalidInput(
                f"The span {start} to {end} is not within the text's {live.text_length} characters.", field="span"
            )
        if end - start > MAX_TEXT_CHARACTERS:
            raise InvalidInput(
                f"The span has {end - start} characters; {MAX_TEXT_CHARACTERS} can be read at once.", field="span"
            )
        index = await self._text_index(live)
        first, last, skipped = index.byte_range(start, end)
        text = decode_range(await self._storage.read(live.text_key, first, last), skipped, end - start)
        return TextSpan(text, start, end, live.text_length, live.id, index.span_place(start, end))

    async def download(self, collection: str, document: str) -> tuple[Document, AsyncIterator[bytes]]:
        """A document and its raw file, piece by piece."""
        found = await self.catalog.document(collection, document)
        if found.shown is None:
            raise FailedPrecondition(f"The file of {found.display_name} is no longer kept. Upload it again.")
        return found, self._storage.stream(found.shown.raw_key)

    async def retry(self, job: str) -> Job:
        """Queues a job again."""
        retried = await self.catalog.retry(job)
        self._wake()
        return retried

    def watch(self, job: str) -> AsyncIterator[Job]:
        """The job now, then after each change, until it has ended."""
        return self._job_watch.watch(job)

    async def _live(self, collection: str, document: str, version: str) -> Version:
        found = await self.catalog.document(collection, document)
        if not found.live_version or found.shown is None:
            raise FailedPrecondition(f"No version of {found.display_name} is live; its last job is jobs/{found.job}.")
        if version and version != found.live_version:
            raise FailedPrecondition(
                f"Version {version} of {found.display_name} is no longer live; {found.live_version} is. Search again."
            )
        return found.shown

    async def _text_index(self, version: Version) -> TextIndex:
        if not has_index(version):
            return TextIndex.of_ascii(version.text_length)
        key = index_key(version.text_key)
        if key not in self._indexes:
            self._indexes[key] = await self._read_index(version, key)
        self._indexes.move_to_end(key)
        if len(self._indexes) > CACHED_INDEXES:
            self._indexes.popitem(last=False)
        return self._indexes[key]

    async def _read_index(self, version: Version, key: str) -> TextIndex:
        try:
            return TextIndex.from_bytes(await self._storage.read(key))
        except Corrupt:
            if version.text_bytes != version.text_length or version.page_count:
                raise
            return TextIndex.of_ascii(version.text_length)  # parsed before every text had an index

    async def list(self, collection: str, **wanted: Any) -> list[Document]:
        """A collection's documents, as the catalog lists them. NotFound when there is neither one nor the collection."""
        found = await self.catalog.documents(collection, **wanted)
        if not found:
            await self.check_listed(collection)
        return found

    async def check_listed(self, collection: str) -> None:
        """NotFound for a collection that the retriever lacks; while it cannot be asked, any may be there."""
        with contextlib.suppress(Unavailable):
            await self._check_collection(collection, "parent")

    async def _check_collection(self, collection: str, field: str = "header.collection") -> None:
        """NotFound for a collection that the retriever lacks. One that was there before is believed while it is away."""
        if time.monotonic() - self._known_collections.get(collection, -KNOWN_COLLECTION_S) < KNOWN_COLLECTION_S:
            return
        try:
            await self._index.indexes(collection)
        except NotFound:
            self._known_collections.pop(collection, None)
            raise NotFound(
                f"There is no collection {public(collection)}. Create it with `murphey collections create "
                f"{public(collection)}`.",
                field=field,
            ) from None
        except Unavailable:
            if collection not in self._known_collections:
                raise
            return
        self._known_collections[collection] = time.monotonic()

    async def _check_queue(self) -> None:
        counted, at = self._waiting_jobs
        if time.monotonic() - at > COUNT_JOBS_EVERY_S:
            counted = await self.catalog.waiting_jobs()
            self._waiting_jobs = (counted, time.monotonic())
        if counted >= self._max_waiting_jobs:
            raise Overloaded(
                f"{self._max_waiting_jobs} jobs are waiting; no more are taken until some have ended.",
                retry_after_s=30.0,
            )
