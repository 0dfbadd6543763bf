"""The stages that make documents searchable: parse, chunk, index, publish, clean up.

Each stage works on a run, a batch of jobs of one collection, and can be begun again after a crash at any point: what is
done is recorded, what is redone gives the same. A job that cannot go on fails alone; one that was stopped is left out.
"""

import asyncio
import contextlib
import shutil
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ingest.batches import ChunkTable, Member, Twins, read_slice, table_key
from ingest.catalog import has_index, index_key
from ingest.chunking import ChunkSize
from ingest.documents import Failure
from ingest.index.chunk_index import ChunkIndex, DocumentChunks
from ingest.jobs import JobStage
from ingest.members import Members
from ingest.parsers.parsing import ParsedFile
from ingest.parsers.pool import TextFile, WorkerPool
from ingest.parsers.rows import read_rows
from ingest.run_statements import ParsedText, Work
from ingest.runs import Runs
from ingest.storage import Storage
from mesh import logs
from mesh.errors import Corrupt, DeadlineExceeded, InvalidInput, MurpheyError, Overloaded, Unavailable

log = logs.get(__name__)

RECORD_EVERY = 64
PUBLISH_POLL_S = 0.05
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0

Result = TypeVar("Result")
Target = tuple[str, str]
"""A collection, and the version of its index."""


@dataclass(frozen=True)
class PipelineLimits:
    """How much is on its way at once."""

    upsert_chunks: int
    upserts_at_once: int
    index_patience_s: float


class Pipeline:
    """The stages. One per process, shared by all runs."""

    def __init__(
        self,
        runs: Runs,
        storage: Storage,
        parsers: WorkerPool,
        index: ChunkIndex,
        members: Members,
        limits: PipelineLimits,
    ) -> None:
        self._runs = runs
        self._storage = storage
        self._parsers = parsers
        self._index = index
        self._members = members
        self._limits = limits
        self._upserts = asyncio.Semaphore(limits.upserts_at_once)

    async def parse(self, run: str) -> None:
        """Makes text of the raw files."""
        works = [work for work in await self._runs.work(run) if work.job.stage < JobStage.PARSED]
        archives = await self._members.archives(works)
        parsed: dict[str, tuple[Work, ParsedText]] = {}
        with self._storage.folder() as folder:
            for work in works:
                text = await self._parse_one(work, folder, work.job.document_id in archives)
                if isinstance(text, Failure):
                    await self._fail(work, text)
                else:
                    parsed[work.job.id] = (work, text)
                if len(parsed) == RECORD_EVERY:
                    await self._runs.record_parsed(parsed)
                    parsed = {}
        if parsed:
            await self._runs.record_parsed(parsed)

    async def _parse_one(self, work: Work, folder: Path, was_archive: bool) -> ParsedText | Failure:
        text, index, members = folder / "text", folder / "index", folder / "members"
        version = work.version
        try:
            async with self._storage.as_file(version.raw_key) as path:
                parsed = await self._parsers.parse(path, work.job.display_name, text, index, members)
            if isinstance(parsed, Failure):
                return parsed
            if parsed.members or was_archive:
                await self.patiently(lambda: self._members.take(work, parsed.members))
        except Corrupt as error:
            return Failure.of(error)
        finally:
            if members.exists():
                await asyncio.to_thread(shutil.rmtree, members)
        text_key = version.raw_key
        if not parsed.text_is_raw:
            text_key = f"text/{work.job.collection}/{work.job.document_id}/{version.id}"
            await self._storage.put(text_key, text)
        if parsed.has_index:
            await self._storage.put(index_key(text_key), index)
        return _parsed_text(parsed, text_key)

    async def chunk(self, run: str) -> None:
        """Cuts the texts and keeps the table of chunks."""
        works = await self._runs.work(run)
        if not works or any(work.job.stage >= JobStage.CHUNKED for work in works):
            return
        collection = await self._runs.collection(run)
        target = (await self.patiently(lambda: self._index.indexes(collection))).live
        table, counts = await self.cut(works, target.size)
        for work, count in zip(works, counts, strict=True):
            if count == 0:
                await self._fail(work, Failure.of(InvalidInput("The document holds no text that could be found.")))
        await self._storage.put(table_key(run), table.to_bytes())
        counted = {work.job.id: (work, count) for work, count in zip(works, counts, strict=True) if count}
        await self._runs.record_chunked(counted, target.size.described, target.version)

    async def cut(self, works: list[Work], size: ChunkSize) -> tuple[ChunkTable, list[int]]:
        """The chunks of parsed texts, and how many each has."""
        async with AsyncExitStack() as stack:
            texts = [await self._text_file(work, stack) for work in works]
            output = stack.enter_context(self._storage.folder()) / "chunks"
            counts = await self._parsers.chunk(texts, size, output)
            if isinstance(counts, Failure):
                raise InvalidInput(counts.message)
            cut = await asyncio.to_thread(read_rows, output)
        members = [Member(work.job.id, work.job.document, work.version.id) for work in works]
        return ChunkTable(members, cut), counts

    async def _text_file(self, work: Work, stack: AsyncExitStack) -> TextFile:
        version = work.version
        text = await stack.enter_async_context(self._storage.as_file(version.text_key))
        index = None
        if has_index(version):
            with contextlib.suppress(Corrupt):  # parsed before every text had one
                index = await stack.enter_async_context(self._storage.as_file(index_key(version.text_key)))
        return TextFile(text, index, version.media_type)

    async def index(self, run: str) -> None:
        """Has the chunks embedded and stored, a few calls at a time; each that returned is recorded."""
        works = {work.job.id: work for work in await self._runs.work(run) if work.job.stage == JobStage.CHUNKED}
        if not works:
            return
        collection = await self._runs.collection(run)
        table = ChunkTable.from_bytes(await self._storage.read(table_key(run)))
        index_version, by_job = await self._runs.index_version(run), await self._runs.twins(run)
        replaced = await self._runs.replaced(run)
        on_their_way: deque[tuple[int, asyncio.Task[None]]] = deque()
        try:
            begin = await self._runs.indexed_rows(run)
            for start, end in table.slices(begin, self._limits.upsert_chunks):
                if len(on_their_way) == self._limits.upserts_at_once:
                    await self._finish_slice(run, table, on_their_way)
                    going = await self._runs.going(run)
                    works = {job: work for job, work in works.items() if job in going}
                first_ones = start < begin + self._limits.upserts_at_once * self._limits.upsert_chunks
                twins = Twins(by_job, first_ones, replaced)
                task = asyncio.create_task(
                    self._index_slice((collection, index_version), table, works, start, end, twins)
                )
                on_their_way.append((end, task))
            while on_their_way:
                await self._finish_slice(run, table, on_their_way)
        finally:
            for _, task in on_their_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in on_their_way), return_exceptions=True)

    async def _index_slice(
        self, target: Target, table: ChunkTable, works: Mapping[str, Work], start: int, end: int, twins: Twins
    ) -> None:
        documents = await read_slice(self._storage, table, works, start, end, twins)
        if not documents:
            return
        async with self._upserts:
            try:
                await self.patiently(lambda: self._index.stage(target[0], documents, target[1]))
            except InvalidInput:
                await self._stage_each(target, documents, works)

    async def _stage_each(self, target: Target, documents: Sequence[DocumentChunks], works: Mapping[str, Work]) -> None:
        """One after the other, when some chunk of theirs was refused: its document fails, the others do not."""
        by_version = {(work.job.document, work.version.id): work for work in works.values()}
        for document in documents:
            try:
                await self.patiently(lambda document=document: self._index.stage(target[0], [document], target[1]))
            except InvalidInput as error:
                await self._fail(by_version[document.document, document.version], Failure.of(error))

    async def _finish_slice(
        self, run: str, table: ChunkTable, on_their_way: deque[tuple[int, asyncio.Task[None]]]
    ) -> None:
        end, task = on_their_way[0]
        await task
        on_their_way.popleft()
        start = max(0, end - self._limits.upsert_chunks)
        touched = {int(number) for number in table.rows["document"][start:end]}
        so_far, in_all = table.counts(end), table.counts(len(table.rows))
        by_job = {table.members[number].job: int(so_far[number]) for number in touched}
        done = [table.members[number].job for number in touched if so_far[number] == in_all[number]]
        await self._runs.record_indexed(run, end, by_job, done)

    async def publish(self, run: str) -> None:
        """Makes the documents live. From here on nothing stops them."""
        collection, index_version = await self._runs.collection(run), await self._runs.index_version(run)
        blocked = True
        while blocked:
            works, blocked = await self._runs.claim_publishing(run)
            if works:
                versions = [(work.job.document, work.version.id) for work in works]
                await self.patiently(lambda versions=versions: self._index.publish(collection, versions, index_version))
                await self._runs.record_live(works)
                log.info("documents_live", run=run, collection=collection, documents=len(works))
            elif blocked:
                await asyncio.sleep(PUBLISH_POLL_S)

    async def clean(self, run: str) -> None:
        """Removes what jobs left that were stopped or failed, and what the run kept for itself."""
        collection = await self._runs.collection(run)
        try:
            table = ChunkTable.from_bytes(await self._storage.read(table_key(run)))
        except Corrupt:
            table = None  # the run never came so far, or this stage was interrupted when it had deleted the table
        if table is not None:
            live = await self._runs.live_versions(run)
            for member in table.members:
                if member.version not in live:
                    await self.patiently(
                        lambda member=member: self._index.delete_version(collection, member.document, member.version)
                    )
        await self._storage.delete([table_key(run)])
        await self.purge()
        await self._runs.finish(run)

    async def purge(self) -> None:
        """Deletes objects that nothing names any more."""
        while keys := await self._runs.discarded_keys(500):
            await self._storage.delete(keys)
            await self._runs.forget_keys(keys)

    async def fail_all(self, run: str, error: MurpheyError) -> None:
        """Gives up every job of the run that goes on."""
        ids = [work.job.id for work in await self._runs.work(run)]
        if ids:
            log.warning("run_failed", run=run, jobs=len(ids), error=error.message)
            await self._runs.fail(ids, Failure.of(error))

    async def _fail(self, work: Work, failure: Failure) -> None:
        log.info("document_failed", document=work.job.document, job=work.job.id, reason=failure.reason)
        await self._runs.fail([work.job.id], failure)

    async def patiently(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Calls the index again while it is away or overloaded, with growing pauses, until patience ends."""
        loop = asyncio.get_running_loop()
        end, pause_s = loop.time() + self._limits.index_patience_s, FIRST_RETRY_S
        while True:
            try:
                return await call()
            except (Unavailable, Overloaded, DeadlineExceeded) as error:
                if loop.time() + pause_s > end:
                    raise
                log.warning("index_away", error=error.message, retry_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_RETRY_S)


def _parsed_text(parsed: ParsedFile, text_key: str) -> ParsedText:
    return ParsedText(
        text_key, parsed.media_type, parsed.text_bytes, parsed.text_length, parsed.page_count, parsed.found
    )
