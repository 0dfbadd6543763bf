"""A service that is killed with -9 while it works goes on where it was: nothing lost, nothing doubled, nothing redone twice."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from tests.ingest.fakes import FakeRetriever, serving_retriever

pytestmark = pytest.mark.e2e

DOCUMENTS = 40
UPSERT_CHUNKS = 16


@asynccontextmanager
async def ingest_process(data: Path, retriever: str, tokenizer: Path) -> AsyncIterator[tuple[IngestServiceStub, int]]:
    """A real process; yields a stub and the process id. It is killed on leaving."""
    arguments = {
        "data": data,
        "retriever": retriever,
        "tokenizer": tokenizer,
        "upsert-chunks": UPSERT_CHUNKS,
        "batch-documents": 8,
    }
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "ingest", *flags, stderr=write)
    os.close(write)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
    )
    try:
        address = await asyncio.wait_for(_address(reader), 60)
        draining = asyncio.create_task(reader.read())
        async with grpc.aio.insecure_channel(address) as channel:
            yield IngestServiceStub(channel), process.pid
        process.kill()
        await draining
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _address(reader: asyncio.StreamReader) -> str:
    async for line in reader:
        if b"service_ready" in line:
            return line.split(b'"address": "')[1].split(b'"')[0].decode()
    raise AssertionError("The service ended before it was ready.")


async def upload(stub: IngestServiceStub, name: str, data: bytes) -> pb.UploadDocumentResponse:
    async def requests() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield pb.UploadDocumentRequest(header=pb.UploadHeader(display_name=name, batch="kill"))
        yield pb.UploadDocumentRequest(data=data)

    return await stub.UploadDocument(requests(), timeout=30)


def content(number: int) -> bytes:
    return f"Document {number} says this. ".encode() * 60


async def test_killed_in_each_stage_every_document_is_live_exactly_once(tmp_path: Path, tokenizer_folder: Path) -> None:
    retriever = FakeRetriever()
    async with serving_retriever(retriever) as target:
        async with ingest_process(tmp_path, target, tokenizer_folder) as (stub, pid):
            retriever.gate.clear()
            await asyncio.gather(*(upload(stub, f"{number}.txt", content(number)) for number in range(DOCUMENTS)))
            await asyncio.wait_for(retriever.upserting.wait(), 60)
            os.kill(pid, signal.SIGKILL)
        retriever.gate.set()
        for _ in range(3):
            embedded = len(retriever.embedded)
            async with ingest_process(tmp_path, target, tokenizer_folder) as (stub, pid):
                await asyncio.wait_for(_more_than(retriever, embedded), 60)
                os.kill(pid, signal.SIGKILL)
        async with ingest_process(tmp_path, target, tokenizer_folder) as (stub, _):
            jobs = (await stub.ListJobs(pb.ListJobsRequest(batch="kill", page_size=1000))).jobs
            ended = await asyncio.gather(*(_ended(stub, job.name) for job in jobs))
            listed = (await stub.ListDocuments(pb.ListDocumentsRequest(page_size=1000))).documents

    assert [job.state for job in ended] == [pb.JOB_STATE_SUCCEEDED] * DOCUMENTS
    assert len(listed) == DOCUMENTS
    for document in listed:
        chunks = retriever.found(document.name)
        assert [chunk.index for chunk in chunks] == list(range(document.chunk_count))
        number = int(document.display_name.removesuffix(".txt"))
        for chunk in chunks:
            assert content(number).decode()[chunk.span.start : chunk.span.end] == chunk.text
    assert retriever.staged() == []
    redone = sum(times - 1 for times in retriever.embedded.values())
    assert redone <= 4 * 2 * 2 * UPSERT_CHUNKS  # a kill redoes at most the calls of two runs that were on their way


async def _more_than(retriever: FakeRetriever, embedded: int) -> None:
    """Until more chunks came, or all are there."""
    while len(retriever.embedded) == embedded and len(retriever.live) < DOCUMENTS:
        retriever.upserting.clear()
        waiting = asyncio.create_task(retriever.upserting.wait())
        await asyncio.wait([waiting], timeout=1)
        waiting.cancel()


async def _ended(stub: IngestServiceStub, name: str) -> pb.Job:
    last = pb.Job()
    async for response in stub.WatchJob(pb.WatchJobRequest(name=name), timeout=120):
        last = response.job
    return last
