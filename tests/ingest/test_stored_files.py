"""Raw files and texts are kept in real object stores, which may go away in the middle."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from ingest.origins.buckets import find_objects
from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service, running_service
from tests.ingest.emulators import EMULATORS, make_bucket, running

pytestmark = pytest.mark.e2e

LARGE = b"".join(b"Line %07d of a large file.\n" % number for number in range(60_000))
"""Too large to be kept in memory on its way."""


async def test_files_are_kept_in_a_store_which_may_go_away_in_the_middle(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(EMULATORS["s3"](tmp_path / "s3")) as emulator:
        emulator.use(monkeypatch)
        await asyncio.to_thread(make_bucket, emulator)
        url = "s3://bucket/kept"
        async with running_service(tmp_path / "data", tokenizer_folder, objects_url=url, upsert_chunks=2) as service:
            whole = await service.ingest("large.txt", LARGE)
            service.retriever.gate.clear()
            service.retriever.upserting.clear()
            started = [
                await service.upload(f"{number}.txt", f"Words of {number}, wörtlich. ".encode("latin-1") * 99)
                for number in range(3)
            ]
            await asyncio.wait_for(service.retriever.upserting.wait(), 60)
            await asyncio.to_thread(emulator.kill)
            service.retriever.gate.set()
            emulator.start()
            await asyncio.to_thread(make_bucket, emulator)
            ended = [await service.ended(response.job.name) for response in started]

            assert [whole.state, *(job.state for job in ended)] == [pb.JOB_STATE_SUCCEEDED] * 4
            assert await download(service, "large.txt") == LARGE
            assert (await service.text(await service.document("1.txt"))).startswith("Words of 1, wörtlich.")
            assert await orphans(service) == []
            for name in ("large.txt", "0.txt", "1.txt", "2.txt"):
                await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=(await service.document(name)).name))
            assert await orphans(service) == []
            assert await find_objects(f"{url}/", "") == []


async def test_files_are_kept_in_azure_too(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(EMULATORS["az"](tmp_path / "az")) as emulator:
        emulator.use(monkeypatch)
        await asyncio.to_thread(make_bucket, emulator)
        async with running_service(tmp_path / "data", tokenizer_folder, objects_url="az://bucket") as service:
            jobs = [
                await service.ingest("large.txt", LARGE),
                await service.ingest("a.md", b"# A\n\nWords."),
            ]
            assert [job.state for job in jobs] == [pb.JOB_STATE_SUCCEEDED] * 2
            assert await download(service, "large.txt") == LARGE
            assert await orphans(service) == []


async def download(service: Service, name: str) -> bytes:
    document = await service.document(name)
    call: AsyncIterator[Any] = service.stub.DownloadDocument(pb.DownloadDocumentRequest(name=document.name))
    return b"".join([answer.data async for answer in call])


async def orphans(service: Service) -> list[pb.Orphan]:
    request = pb.FindOrphansRequest(minimum_age=Duration())
    return [each.orphan async for each in service.stub.FindOrphans(request) if each.HasField("orphan")]
