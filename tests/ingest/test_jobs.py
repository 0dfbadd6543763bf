"""Jobs over gRPC: cancelled, tried again, superseded, waited for, deleted with their documents, and listed."""

import asyncio

import grpc
import pytest

from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service
from tests.ingest.fakes import away

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "# Title\n\nThe first paragraph says something. Ünïcode 漢字 🙂 too.\n\n" + "The and of chunk ending. " * 60


@pytest.mark.slow
async def test_cancelled_jobs_leave_no_chunks_and_can_be_retried(service: Service) -> None:
    service.retriever.upserting.clear()
    service.retriever.gate.clear()
    started = await service.upload("stopped.txt", b"Words to be stopped. " * 50)
    await asyncio.wait_for(service.retriever.upserting.wait(), 20)

    cancelled = (await service.stub.CancelJob(pb.CancelJobRequest(name=started.job.name))).job
    service.retriever.gate.set()
    assert cancelled.state == pb.JOB_STATE_CANCELLED
    document = await service.document("stopped.txt")
    assert (document.state, document.version) == (pb.DOCUMENT_STATE_FAILED, "")

    retried = (await service.stub.RetryJob(pb.RetryJobRequest(name=started.job.name))).job
    assert retried.state == pb.JOB_STATE_QUEUED
    ended = await service.ended(started.job.name)
    assert ended.outcome == pb.JOB_OUTCOME_INDEXED
    await service.chunks_gone(document.name, staged_only=True)


async def test_a_job_that_has_ended_cannot_be_retried_and_stays_when_cancelled(service: Service) -> None:
    job = await service.ingest("ended.txt", b"Some words.")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.RetryJob(pb.RetryJobRequest(name=job.name))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert (await service.stub.CancelJob(pb.CancelJobRequest(name=job.name))).job == job


async def test_a_newer_upload_supersedes_the_job_that_runs(service: Service) -> None:
    service.retriever.upserting.clear()
    service.retriever.gate.clear()
    first = await service.upload("twice.txt", b"First words. " * 50)
    await asyncio.wait_for(service.retriever.upserting.wait(), 20)
    second = await service.upload("twice.txt", b"Second words. " * 50)
    service.retriever.gate.set()

    assert (await service.ended(first.job.name)).state == pb.JOB_STATE_CANCELLED
    assert (await service.ended(second.job.name)).outcome == pb.JOB_OUTCOME_INDEXED
    document = await service.document("twice.txt")
    assert {chunk.text[:6] for chunk in service.retriever.found(document.name)} == {"Second"}


async def test_a_retriever_that_is_away_for_a_moment_is_waited_for(service: Service) -> None:
    service.retriever.failures.extend([away(), away()])

    job = await service.ingest("patient.txt", b"It comes back.")

    assert job.outcome == pb.JOB_OUTCOME_INDEXED


async def test_deleting_removes_chunks_text_and_file(service: Service) -> None:
    await service.ingest("gone.md", TEXT.encode())
    document = await service.document("gone.md")
    mine = document.name.rsplit("/", 1)[1]
    assert [path for path in service.objects() if mine in str(path)]

    deleted = await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=document.name))

    assert deleted.deleted_chunks == document.chunk_count
    assert not [chunk for chunk in service.retriever.chunks.values() if chunk.document == document.name]
    assert not [path for path in service.objects() if mine in str(path)]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=document.name))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


async def test_deleting_while_a_job_runs_cancels_it(service: Service) -> None:
    service.retriever.upserting.clear()
    service.retriever.gate.clear()
    started = await service.upload("racing.txt", b"Words in flight. " * 50)
    await asyncio.wait_for(service.retriever.upserting.wait(), 20)
    await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=started.document.name))
    service.retriever.gate.set()

    assert (await service.ended(started.job.name)).state == pb.JOB_STATE_CANCELLED
    await service.chunks_gone(started.document.name)


async def test_lists_come_in_pages(service: Service) -> None:
    jobs = await asyncio.gather(
        *(service.ingest(f"paged/{number}.txt", b"Words.", batch="paged") for number in range(5))
    )

    first = await service.stub.ListJobs(pb.ListJobsRequest(batch="paged", page_size=3))
    rest = await service.stub.ListJobs(pb.ListJobsRequest(batch="paged", page_size=3, page_token=first.next_page_token))
    listed = [job.name for job in [*first.jobs, *rest.jobs]]
    assert listed == sorted((job.name for job in jobs), reverse=True)
    assert rest.next_page_token == ""

    names: list[str] = []
    request = pb.ListDocumentsRequest(page_size=2)
    while True:
        page = await service.stub.ListDocuments(request)
        names += [document.display_name for document in page.documents]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert {f"paged/{number}.txt" for number in range(5)} <= set(names)
