"""Services that are killed with -9 while they work go on where they were: nothing lost, doubled, or redone twice."""

import asyncio
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from tests.ingest.fakes import FakeRetriever, serving_retriever
from tests.ingest.postgres import Postgres, postgres_server
from tests.ingest.processes import IngestProcess, ended, ingest_process, upload

pytestmark = pytest.mark.e2e

DOCUMENTS = 40
UPSERT_CHUNKS = 16
SETTINGS = {"upsert_chunks": UPSERT_CHUNKS, "batch_documents": 8}
REDONE_BY_A_KILL = 2 * 2 * UPSERT_CHUNKS
"""Two runs at once, each with two calls on their way."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


async def test_killed_in_each_stage_every_document_is_live_exactly_once(tmp_path: Path, tokenizer_folder: Path) -> None:
    retriever = FakeRetriever()
    async with serving_retriever(retriever) as target:
        async with ingest_process(tmp_path, target, tokenizer_folder, **SETTINGS) as service:
            await _upload_all(retriever, service)
        retriever.gate.set()
        for _ in range(3):
            embedded = len(retriever.embedded)
            async with ingest_process(tmp_path, target, tokenizer_folder, **SETTINGS):
                await asyncio.wait_for(_more_than(retriever, embedded), 120)
        async with ingest_process(tmp_path, target, tokenizer_folder, **SETTINGS) as service:
            await _all_live_once(retriever, service.stub)
    assert _redone(retriever) <= 4 * REDONE_BY_A_KILL


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_what_a_killed_worker_carried_goes_on_at_the_other(
    database: str, tmp_path: Path, tokenizer_folder: Path, request: pytest.FixtureRequest
) -> None:
    settings = dict[str, object](SETTINGS)
    if database == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        server.create("kill")
        settings["database_url"] = server.url("kill")
    retriever = FakeRetriever()
    async with (
        serving_retriever(retriever) as target,
        ingest_process(tmp_path, target, tokenizer_folder, **settings) as survivor,
    ):
        for _ in range(3):
            async with ingest_process(tmp_path, target, tokenizer_folder, **settings) as victim:
                embedded = len(retriever.embedded)
                await _upload_all(retriever, victim, survivor)
                retriever.gate.set()
                await asyncio.wait_for(_more_than(retriever, embedded), 120)
        await _all_live_once(retriever, survivor.stub)
    assert _redone(retriever) <= 3 * REDONE_BY_A_KILL


async def test_an_archive_killed_while_it_is_taken_apart_gives_each_member_once(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    names = [f"{number}.txt" for number in range(DOCUMENTS)]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for number, name in enumerate(names):
            writer.writestr(name, content(number))
    retriever = FakeRetriever()
    async with serving_retriever(retriever) as target:
        retriever.gate.clear()
        async with ingest_process(tmp_path, target, tokenizer_folder, **SETTINGS) as service:
            job = (await upload(service.stub, "all.zip", archive.getvalue())).job
        async with ingest_process(tmp_path, target, tokenizer_folder, **SETTINGS) as service:
            await asyncio.wait_for(_some_members(service.stub), 120)
        retriever.gate.set()
        async with ingest_process(tmp_path, target, tokenizer_folder, **SETTINGS) as service:
            assert (await ended(service.stub, job.name)).state == pb.JOB_STATE_SUCCEEDED
            found = await _some_members(service.stub)
            states = [(await ended(service.stub, member.job)).state for member in found]
            request = pb.FindOrphansRequest(minimum_age=Duration())
            orphans = [each.orphan async for each in service.stub.FindOrphans(request) if each.HasField("orphan")]
    assert sorted(member.display_name for member in found) == sorted(f"all.zip/{name}" for name in names)
    assert states == [pb.JOB_STATE_SUCCEEDED] * DOCUMENTS
    assert orphans == []
    assert _redone(retriever) <= REDONE_BY_A_KILL


async def _some_members(stub: IngestServiceStub) -> list[pb.Document]:
    """The members of the archive, as soon as there are any."""
    while True:
        listed = (await stub.ListDocuments(pb.ListDocumentsRequest(page_size=1000))).documents
        if found := [document for document in listed if document.archive]:
            return found
        await asyncio.sleep(0.01)


async def _upload_all(retriever: FakeRetriever, *services: IngestProcess) -> None:
    """To each service in turn; returns when chunks are held at the retriever's closed gate."""
    retriever.gate.clear()
    retriever.upserting.clear()
    stubs = [services[number % len(services)].stub for number in range(DOCUMENTS)]
    uploads = [upload(stub, f"{number}.txt", content(number)) for number, stub in enumerate(stubs)]
    done = await asyncio.gather(*uploads)
    if any(response.job.state != pb.JOB_STATE_SUCCEEDED for response in done):
        await asyncio.wait_for(retriever.upserting.wait(), 120)


async def _all_live_once(retriever: FakeRetriever, stub: IngestServiceStub) -> None:
    jobs = (await stub.ListJobs(pb.ListJobsRequest(batch="kill", page_size=1000))).jobs
    states = {job.state for job in await asyncio.gather(*(ended(stub, job.name) for job in jobs))}
    listed = (await stub.ListDocuments(pb.ListDocumentsRequest(page_size=1000))).documents

    assert states <= {pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_CANCELLED}  # cancelled: superseded by a later upload
    assert len(listed) == DOCUMENTS
    for document in listed:
        assert document.state == pb.DOCUMENT_STATE_LIVE
        chunks = retriever.found(document.name)
        assert [chunk.index for chunk in chunks] == list(range(document.chunk_count))
        number = int(document.display_name.removesuffix(".txt"))
        for chunk in chunks:
            assert content(number).decode()[chunk.span.start : chunk.span.end] == chunk.text
    await _until(lambda: retriever.staged() == [])  # what superseded jobs left goes when their runs end


def content(number: int) -> bytes:
    """Several chunks, unlike those of other documents."""
    return f"Document {number} says this. ".encode() * 60


def _redone(retriever: FakeRetriever) -> int:
    return sum(times - 1 for times in retriever.embedded.values())


async def _more_than(retriever: FakeRetriever, embedded: int) -> None:
    """Until more chunks came, or all are there."""
    while len(retriever.embedded) == embedded and len(retriever.live) < DOCUMENTS:
        retriever.upserting.clear()
        waiting = asyncio.create_task(retriever.upserting.wait())
        await asyncio.wait([waiting], timeout=1)
        waiting.cancel()


async def _until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the fake tells no one when it deletes
            await asyncio.sleep(0.05)
