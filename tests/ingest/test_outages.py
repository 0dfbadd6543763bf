"""What ingest needs goes away in the middle and comes back: jobs wait, none is lost, and nothing is embedded again."""

import asyncio
import errno
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import obstore
import psutil
import pytest
from obstore.exceptions import BaseError

from ingest import workflows
from ingest.fair_queue import FairQueue
from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service, running_service
from tests.ingest.fakes import away
from tests.ingest.postgres import Postgres, postgres_server


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """While the list is not empty, the object store has no room for keys that begin with what is in it."""
    full: list[str] = []
    put = obstore.put_async

    async def put_or_fail(store: Any, key: str, content: Any) -> Any:
        if any(key.startswith(prefix) for prefix in full):
            full.append("refused/")
            raise OSError(errno.ENOSPC, "No space left on device")
        return await put(store, key, content)

    monkeypatch.setattr(obstore, "put_async", put_or_fail)
    yield full
    full.clear()


@pytest.mark.slow
async def test_a_full_disk_refuses_uploads_and_says_why(
    tmp_path: Path, tokenizer_folder: Path, full_disk: list[str]
) -> None:
    async with running_service(tmp_path, tokenizer_folder) as service:
        full_disk.append("raw/")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.upload("late.txt", b"No room for this.")
        full_disk.clear()
        job = await service.ingest("late.txt", b"Now there is.")

    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "No space left" in (raised.value.details() or "")
    assert job.state == pb.JOB_STATE_SUCCEEDED


@pytest.mark.slow
async def test_a_file_system_that_takes_no_more_refuses_an_upload_and_nothing_is_left(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    async with running_service(tmp_path, tokenizer_folder) as service:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, hard))
        try:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await service.upload("large.txt", b"No room for these words. " * 300_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        left = [path for path in service.objects() if path.stat().st_size > 1000]

    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "File too large" in (raised.value.details() or "")
    assert left == []


@pytest.mark.slow
async def test_a_job_waits_for_room_on_the_disk(tmp_path: Path, tokenizer_folder: Path, full_disk: list[str]) -> None:
    async with running_service(tmp_path, tokenizer_folder) as service:
        full_disk.append("text/")
        started = await service.upload("wide.txt", "Füße und Hände. ".encode("latin-1") * 40)
        async with asyncio.timeout(30):
            while "refused/" not in full_disk:  # noqa: ASYNC110 - the fixture runs in no loop of its own
                await asyncio.sleep(0.05)
        waiting = await service.stub.GetJob(pb.GetJobRequest(name=started.job.name))
        full_disk.clear()
        ended = await service.ended(started.job.name)

    assert waiting.job.state == pb.JOB_STATE_RUNNING
    assert ended.state == pb.JOB_STATE_SUCCEEDED


@pytest.mark.slow
async def test_what_a_cancelled_job_left_goes_though_the_store_is_away_when_it_is_to_be_cleaned(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, refused = obstore.get_async, list[str]()

    async def get_or_fail(store: Any, key: str) -> Any:
        if key.startswith("runs/") and not refused:
            refused.append(key)
            raise BaseError("the connection was reset")
        return await get(store, key)

    async with running_service(tmp_path, tokenizer_folder) as service:
        service.retriever.gate.clear()
        started = await service.upload("stopped.txt", b"Words to be stopped. " * 50)
        await asyncio.wait_for(service.retriever.upserting.wait(), 30)
        monkeypatch.setattr(obstore, "get_async", get_or_fail)
        await service.stub.CancelJob(pb.CancelJobRequest(name=started.job.name))
        service.retriever.gate.set()
        await service.chunks_gone(started.document.name)

    assert len(refused) == 1


@pytest.mark.slow
async def test_what_ends_by_an_error_that_nobody_foresaw_begins_again(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, failed = FairQueue.take, list[int]()

    async def take_or_fail(queue: FairQueue, room: int) -> str | None:
        if not failed:
            failed.append(room)
            raise RuntimeError("never seen before")
        return await take(queue, room)

    monkeypatch.setattr(FairQueue, "take", take_or_fail)
    monkeypatch.setattr(workflows, "LAST_PAUSE_S", 0.1)
    async with running_service(tmp_path, tokenizer_folder) as service:
        job = await service.ingest("page.txt", b"Words.")

    assert (len(failed), job.state) == (1, pb.JOB_STATE_SUCCEEDED)


@pytest.mark.slow
async def test_a_text_that_finds_no_room_fails_alone_and_is_retried(tmp_path: Path, tokenizer_folder: Path) -> None:
    async with running_service(tmp_path, tokenizer_folder) as service:
        [parser] = [child for child in psutil.Process().children() if "ingest.parsers.worker" in child.cmdline()]
        resource.prlimit(parser.pid, resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        wide = await service.ingest("wide.txt", "Füße und Hände. ".encode("latin-1") * 100_000)
        small = await service.ingest("small.txt", "Füße. ".encode("latin-1") * 40)
        resource.prlimit(parser.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        retried = (await service.stub.RetryJob(pb.RetryJobRequest(name=wide.name))).job
        again = await service.ended(retried.name)

    assert (wide.state, small.state, again.state) == (
        pb.JOB_STATE_FAILED, pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_SUCCEEDED,
    )  # fmt: skip
    assert "cannot be written: File too large. Retry the job" in wide.error.message


@pytest.mark.slow
async def test_a_file_that_is_gone_from_its_store_fails_alone(tmp_path: Path, tokenizer_folder: Path) -> None:
    async with running_service(tmp_path, tokenizer_folder) as service:
        failed = await service.ingest("odd.bin", bytes(range(256)) * 8)
        for path in service.objects():
            path.unlink()
        retried = (await service.stub.RetryJob(pb.RetryJobRequest(name=failed.name))).job
        gone, other = await asyncio.gather(service.ended(retried.name), service.ingest("other.txt", b"Other words."))

    assert (failed.state, gone.state, other.state) == (
        pb.JOB_STATE_FAILED, pb.JOB_STATE_FAILED, pb.JOB_STATE_SUCCEEDED,
    )  # fmt: skip
    assert "is gone from the object store. Upload the document again" in gone.error.message


@pytest.mark.slow
async def test_a_retriever_that_stays_away_is_waited_for_and_nothing_is_embedded_again(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    async with running_service(tmp_path, tokenizer_folder, upsert_chunks=2) as service:
        service.retriever.gate.clear()
        jobs = [await service.upload(f"{number}.txt", f"Words of {number}. ".encode() * 200) for number in range(3)]
        await asyncio.wait_for(service.retriever.upserting.wait(), 30)
        service.retriever.failures.extend(away() for _ in range(4))
        service.retriever.gate.set()
        ended = [await service.ended(response.job.name) for response in jobs]

        assert [job.state for job in ended] == [pb.JOB_STATE_SUCCEEDED] * 3
        assert set(service.retriever.embedded.values()) == {1}


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        server.create("outage")
        yield server


@pytest.mark.slow
async def test_a_database_that_goes_away_in_the_middle_fails_no_job(
    tmp_path: Path, tokenizer_folder: Path, postgres: Postgres
) -> None:
    async with running_service(tmp_path, tokenizer_folder, database_url=postgres.url("outage")) as service:
        service.retriever.gate.clear()
        started = [await service.upload(f"{number}.txt", f"Words of {number}. ".encode() * 50) for number in range(3)]
        await asyncio.wait_for(service.retriever.upserting.wait(), 60)
        await asyncio.to_thread(postgres.stop)
        service.retriever.gate.set()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await service.stub.GetJob(pb.GetJobRequest(name=started[0].job.name), timeout=60)
        await asyncio.to_thread(postgres.start)
        ended = [await _ended_at_last(service, response.job.name) for response in started]

        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert [job.state for job in ended] == [pb.JOB_STATE_SUCCEEDED] * 3
        assert set(service.retriever.embedded.values()) == {1}


async def _ended_at_last(service: Service, job: str) -> pb.Job:
    """The job when it has ended, asked again for as long as the database does not answer."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await service.ended(job)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.2)
