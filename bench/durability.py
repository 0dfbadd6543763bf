"""Durability: `kill -9` of ingest workers, the retriever and its store's process, at random moments of one ingest.

Two ingest workers share a data folder and one real retriever, which embeds with the real model. Documents are uploaded
while the kills come, by a client that sends again what was not answered. In the end every document must be live exactly
once, with all of its chunks, at the retriever too, and nothing may be left over in any store. What was embedded is counted
by the retriever itself, in files that outlive it.
"""

import asyncio
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from bench.frame import Report, Row, Target
from bench.local_mesh import models_folder
from bench.options import Options
from bench.victims import Victim, counted
from mesh import threads
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from murphey.retriever.v1 import retriever_pb2
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

DOCUMENTS, KILLS = 500, 200
QUICK_DOCUMENTS, QUICK_KILLS = 12, 4
PARAGRAPHS = (3, 60)
"""Of a document, at random: a handful of chunks up to about seventy."""
PAUSE_S = (0.05, 2.5)
"""Between two kills, the time to start again not counted."""
DONE_WITHIN_S, CLEAN_WITHIN_S, RETRY_S = 1_800.0, 240.0, 0.3
WORDS = Path(__file__).read_text().split()


@dataclass(frozen=True)
class Outcome:
    """What a run showed. `embedded` texts were finished, `begun` ones begun, in all lives of the retriever together."""

    documents: int
    chunks: int
    lost: int
    doubled: int
    left_over: int
    embedded: float
    begun: float
    kills: dict[str, int]
    seconds: float
    seed: int

    @property
    def redone_percent(self) -> float:
        """Chunks whose embedding was begun again, those included that a kill found half done."""
        return 100 * (self.begun - self.chunks) / self.chunks


@dataclass
class _Mesh:
    """Two workers and a retriever on one data folder. `allowed` has a turn for each document that may be uploaded by now."""

    data: Path
    retriever: Victim
    workers: list[Victim]
    chance: random.Random
    allowed: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    kills: Counter[str] = field(default_factory=Counter)


def run(options: Options, kills: int = KILLS, documents: int = DOCUMENTS, seed: int | None = None) -> Report:
    """One run; a quick one has few documents and kills."""
    documents, kills = (QUICK_DOCUMENTS, QUICK_KILLS) if options.quick else (documents, kills)
    outcome = asyncio.run(measure(documents, kills, random.randrange(2**32) if seed is None else seed))
    nothing = Target("value", at_most=0)
    rows = (
        Row("documents lost", "documents", (outcome.lost,), target=nothing),
        Row("documents doubled", "documents", (outcome.doubled,), target=nothing),
        Row("left over in any store", "things", (outcome.left_over,), target=nothing),
        Row("embedding redone", "%", (outcome.redone_percent,), target=Target("value", at_most=3)),
        Row("time", "s", (outcome.seconds,)),
    )
    workload = {"documents": documents, "chunks": outcome.chunks, "kills": outcome.kills, "seed": outcome.seed}
    return Report("durability", rows, workload, options.quick)


async def measure(documents: int, kills: int, seed: int) -> Outcome:
    """Ingests while it kills. TimeoutError when the work never ends."""
    with _data_folder() as data:
        mesh = _mesh(data, random.Random(seed))
        started_s = time.perf_counter()
        async with _running(mesh):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_upload_all(mesh, documents))
                await _kill_at_random(mesh, documents, kills)
            await _until_ended(mesh)
            seconds = time.perf_counter() - started_s
            left_over = await _left_over(mesh)
            return await _judged(mesh, documents, left_over, seconds, seed)


def _mesh(data: Path, chance: random.Random) -> _Mesh:
    environment = dict(os.environ) | {"PROMETHEUS_MULTIPROC_DIR": str(data / "counters")}
    threads.limit(environment)
    (data / "counters").mkdir()
    shared = [f"--data={data}", f"--models={models_folder()}"]
    retriever = Victim("retriever", shared, data / "retriever.log", environment)
    flags = [*shared, f"--retriever={retriever.target}"]
    workers = [Victim("ingest", flags, data / f"ingest-{number}.log", environment) for number in range(2)]
    return _Mesh(data, retriever, workers, chance)


async def _kill_at_random(mesh: _Mesh, documents: int, kills: int) -> None:
    """Lets uploads go on as the kills do, so that every kill meets work."""
    for number in range(kills):
        for _ in range(documents * (number + 1) // kills - documents * number // kills):
            mesh.allowed.release()
        await asyncio.sleep(mesh.chance.uniform(*PAUSE_S))
        victim = mesh.chance.choice([mesh.retriever, *mesh.workers])
        if mesh.chance.random() < 0.2:
            mesh.kills[f"child of {victim.name}"] += 1
            victim.kill_child()
        else:
            mesh.kills[victim.name] += 1
            await victim.kill()
            await victim.start()


async def _upload_all(mesh: _Mesh, documents: int) -> None:
    for number in range(documents):
        await mesh.allowed.acquire()
        await _upload(mesh, f"{number}.txt", _text(random.Random(number), number))


def _text(chance: random.Random, number: int) -> bytes:
    paragraphs = [" ".join(chance.choices(WORDS, k=90)) for _ in range(chance.randint(*PARAGRAPHS))]
    return "\n\n".join([f"Document {number}.", *paragraphs]).encode()


async def _upload(mesh: _Mesh, name: str, data: bytes) -> None:
    """Until a worker has answered, as `murphey ingest` does: what is there already is not sent again."""
    while True:
        worker = mesh.chance.choice(mesh.workers)
        with contextlib.suppress(grpc.aio.AioRpcError):
            async with _stub(worker) as stub:
                if await _is_missing(stub, name):
                    await stub.UploadDocument(_pieces(name, data), timeout=60)
                return
        await asyncio.sleep(RETRY_S)


async def _is_missing(stub: IngestServiceStub, name: str) -> bool:
    found = await stub.ListDocuments(pb.ListDocumentsRequest(display_name=name), timeout=30)
    return not found.documents


async def _pieces(name: str, data: bytes) -> AsyncIterator[pb.UploadDocumentRequest]:
    yield pb.UploadDocumentRequest(header=pb.UploadHeader(display_name=name, size_bytes=len(data)))
    yield pb.UploadDocumentRequest(data=data)


async def _until_ended(mesh: _Mesh) -> None:
    """No document is on its way any more."""
    request = pb.ListDocumentsRequest(state=pb.DOCUMENT_STATE_PENDING, page_size=1)
    async with asyncio.timeout(DONE_WITHIN_S), _stub(mesh.workers[0]) as stub:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                if not (await stub.ListDocuments(request, timeout=60)).documents:
                    return
            await asyncio.sleep(RETRY_S)


async def _left_over(mesh: _Mesh) -> int:
    """What `murphey doctor --orphans` finds once the workers have had the time to sweep."""
    request = pb.FindOrphansRequest(minimum_age=Duration())
    end_s = time.monotonic() + CLEAN_WITHIN_S
    async with _stub(mesh.workers[0]) as stub:
        while True:
            found = [
                answer.orphan async for answer in stub.FindOrphans(request, timeout=600) if answer.HasField("orphan")
            ]
            if not found or time.monotonic() > end_s:
                for orphan in found[:20]:
                    kind = pb.OrphanKind.Name(orphan.kind)
                    print(f"left over: {kind} {orphan.name} {orphan.version} {orphan.amount}", file=sys.stderr)
                return len(found)
            await asyncio.sleep(5)


async def _judged(mesh: _Mesh, documents: int, left_over: int, seconds: float, seed: int) -> Outcome:
    listed = await _listed(mesh)
    stored = await _stored(mesh)
    names = Counter(document.display_name for document in listed)
    lost = documents - len(names)
    doubled = sum(count - 1 for count in names.values())
    for document in listed:
        versions = stored.get(document.name, {})
        shown = versions.get(document.version)
        if document.state != pb.DOCUMENT_STATE_LIVE or shown is None or shown.live_chunks != document.chunk_count:
            state = pb.DocumentState.Name(document.state)
            print(f"lost: {document.display_name} {state} {document.error.message}", file=sys.stderr)
            lost += 1
        doubled += sum(1 for version, found in versions.items() if version != document.version and found.live_chunks)
    chunks = sum(document.chunk_count for document in listed)
    embedded, begun = (
        counted(mesh.data / "counters", f"murphey_{name}_texts", purpose="document")
        for name in ("embedded", "embed_begun")
    )
    return Outcome(documents, chunks, lost, doubled, left_over, embedded, begun, dict(mesh.kills), seconds, seed)


async def _listed(mesh: _Mesh) -> list[pb.Document]:
    found: list[pb.Document] = []
    request = pb.ListDocumentsRequest(page_size=1000)
    async with _stub(mesh.workers[1]) as stub:
        while True:
            page = await stub.ListDocuments(request, timeout=60)
            found += page.documents
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


async def _stored(mesh: _Mesh) -> dict[str, dict[str, retriever_pb2.StoredVersion]]:
    """What the retriever holds, by document and version."""
    found: dict[str, dict[str, retriever_pb2.StoredVersion]] = {}
    async with grpc.aio.insecure_channel(mesh.retriever.target) as channel:
        request = retriever_pb2.ListStoredVersionsRequest()
        async for page in RetrieverServiceStub(channel).ListStoredVersions(request, timeout=300):
            for stored in page.versions:
                found.setdefault(stored.document, {})[stored.version] = stored
    return found


@asynccontextmanager
async def _stub(worker: Victim) -> AsyncIterator[IngestServiceStub]:
    async with grpc.aio.insecure_channel(worker.target) as channel:
        yield IngestServiceStub(channel)


@asynccontextmanager
async def _running(mesh: _Mesh) -> AsyncIterator[None]:
    victims = [mesh.retriever, *mesh.workers]
    try:
        for victim in victims:
            await victim.start()
        yield
    finally:
        for victim in victims:
            await victim.kill()


@contextmanager
def _data_folder() -> Iterator[Path]:
    data = Path(tempfile.mkdtemp(prefix="murphey-durability-"))
    try:
        yield data
    finally:
        shutil.rmtree(data, ignore_errors=True)
