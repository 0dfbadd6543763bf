"""Ingest services as processes of their own, so that a test can kill them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

READY_WITHIN_S = 120


@dataclass(frozen=True)
class IngestProcess:
    """A running service."""

    stub: IngestServiceStub
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    async def kill(self) -> None:
        """With -9; returns when it is gone."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def ingest_process(
    data: Path, retriever: str, tokenizer: Path, **settings: object
) -> AsyncIterator[IngestProcess]:
    """A service that is ready. It is killed on leaving."""
    options = {"data": data, "retriever": retriever, "tokenizer": tokenizer, **settings}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "ingest", *flags, stderr=write)
    os.close(write)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb")
    )
    try:
        address = await asyncio.wait_for(_address(reader), READY_WITHIN_S)
        draining = asyncio.create_task(reader.read())
        async with grpc.aio.insecure_channel(address) as channel:
            yield IngestProcess(IngestServiceStub(channel), process)
        process.kill() if process.returncode is None else None
        await draining
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _address(reader: asyncio.StreamReader) -> str:
    said: list[bytes] = []
    async for line in reader:
        if b"service_ready" in line:
            return line.split(b'"address": "')[1].split(b'"')[0].decode()
        said.append(line)
    raise AssertionError(f"The service ended before it was ready: {b''.join(said)[-2000:].decode()}")


async def upload(stub: IngestServiceStub, name: str, data: bytes, collection: str = "") -> pb.UploadDocumentResponse:
    """One document, in the batch `kill`."""

    async def requests() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield pb.UploadDocumentRequest(header=pb.UploadHeader(display_name=name, batch="kill", collection=collection))
        yield pb.UploadDocumentRequest(data=data)

    return await stub.UploadDocument(requests(), timeout=60)


async def ended(stub: IngestServiceStub, name: str) -> pb.Job:
    """The job when it has ended."""
    last = pb.Job()
    async for response in stub.WatchJob(pb.WatchJobRequest(name=name), timeout=240):
        last = response.job
    return last
