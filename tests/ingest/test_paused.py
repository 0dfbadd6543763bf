"""A worker that was stopped in the middle of publishing, and taken for dead, changes nothing when it wakes."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.retriever.v1 import retriever_pb2
from retriever.service import Context, RetrieverServicer
from tests.ingest.postgres import Postgres, postgres_server
from tests.ingest.processes import ended, ingest_process, upload
from tests.ingest.real_retriever import serving_real_retriever

pytestmark = pytest.mark.e2e


class HoldingServicer(RetrieverServicer):
    """Does the first PublishDocuments only when it is told to, as if it had been on its way for so long."""

    came, may_go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    late: "asyncio.Task[None]"

    async def PublishDocuments(
        self, request: retriever_pb2.PublishDocumentsRequest, context: Context
    ) -> retriever_pb2.PublishDocumentsResponse:
        if self.came.is_set():
            return await super().PublishDocuments(request, context)
        self.came.set()
        HoldingServicer.late = asyncio.create_task(self._publish_late(request, context))
        await asyncio.shield(self.late)
        return retriever_pb2.PublishDocumentsResponse()

    async def _publish_late(self, request: retriever_pb2.PublishDocumentsRequest, context: Context) -> None:
        await self.may_go.wait()
        await super().PublishDocuments(request, context)
        self.done.set()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


async def test_a_publish_that_comes_late_shows_no_older_version(
    tmp_path: Path, tokenizer_folder: Path, postgres: Postgres
) -> None:
    postgres.create("paused")
    (tmp_path / "objects").mkdir()
    settings = {
        "database_url": postgres.url("paused"), "objects_url": (tmp_path / "objects").as_uri(), "worker_lease_s": 5,
    }  # fmt: skip
    async with (
        serving_real_retriever(tmp_path / "retriever", HoldingServicer) as retriever,
        ingest_process(tmp_path / "paused", retriever.target, tokenizer_folder, **settings) as paused,
    ):
        old = await upload(paused.stub, "page.txt", b"The old words of this page. " * 40)
        await asyncio.wait_for(HoldingServicer.came.wait(), 120)
        paused.process.send_signal(signal.SIGSTOP)
        async with ingest_process(tmp_path / "other", retriever.target, tokenizer_folder, **settings) as other:
            assert (await ended(other.stub, old.job.name)).state == pb.JOB_STATE_SUCCEEDED
            new = await upload(other.stub, "page.txt", b"The new words of this page. " * 40)
            assert (await ended(other.stub, new.job.name)).outcome == pb.JOB_OUTCOME_REPLACED

            HoldingServicer.may_go.set()
            await asyncio.wait_for(HoldingServicer.done.wait(), 60)
            paused.process.send_signal(signal.SIGCONT)
            await asyncio.wait_for(paused.process.wait(), 60)  # it sees that it was expelled, and ends

            (document,) = (await other.stub.ListDocuments(pb.ListDocumentsRequest())).documents
            assert await retriever.stored() == {(document.name, document.version): (document.chunk_count, 0)}
            assert all("new words" in chunk.text for chunk in await retriever.found("words"))
