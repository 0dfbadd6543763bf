"""A mesh is backed up while it runs; what is restored answers the same, and lacks nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from mesh.access import identity
from mesh.backup.place import Place
from mesh.errors import Unavailable
from murphey.ingest.v1 import ingest_pb2
from murphey.retriever.v1 import retriever_pb2
from tests.ingest.conftest import tokenizer_folder  # noqa: F401 - a fixture
from tests.mesh.backups import RunningMesh, murphey, refused, running_mesh

pytestmark = pytest.mark.slow
ACME = ((identity.TENANT, "acme"),)
QUESTIONS = ("harbor lantern", "copper dune", "document number 7")


def text(number: int, of: str = "first") -> bytes:
    return f"Document number {number}, {of}. Harbor lantern copper dune {number % 5}. ".encode() * 20


async def fill(mesh: RunningMesh, count: int = 12) -> None:
    jobs = [await mesh.service.upload(f"d{number}.txt", text(number)) for number in range(count)]
    for job in jobs:
        await mesh.service.ended(job.job.name)


async def test_a_restored_mesh_answers_the_same(tmp_path: Path, tokenizer_folder: Path) -> None:  # noqa: F811
    place = str(tmp_path / "backups")
    async with running_mesh(tmp_path / "old", tokenizer_folder) as old:
        await fill(old)
        manifest = await old.back_up(Place.open(place, make=True))
        before, texts = await old.answers(*QUESTIONS), await old.texts()
        assert manifest.chunks == sum(live + staged for live, staged in (await old.retriever.stored()).values())
    verified = await asyncio.to_thread(murphey, "backup", "verify", place)
    assert verified["verified"]
    restored = await asyncio.to_thread(murphey, "restore", place, "--data", str(tmp_path / "new"))
    assert restored["chunks"] == manifest.chunks
    async with running_mesh(tmp_path / "new", tokenizer_folder) as new:
        assert await new.answers(*QUESTIONS) == before
        assert await new.texts() == texts
        assert await new.orphans() == []
        assert new.retriever.embedded == 0
        job = await new.service.ingest("more.txt", b"Pebbles on a beach. " * 30)  # it goes on
        assert not job.error.message
        assert await new.orphans() == []


async def test_tenants_stay_apart(tmp_path: Path, tokenizer_folder: Path) -> None:  # noqa: F811
    place = str(tmp_path / "backups")
    async with running_mesh(tmp_path / "old", tokenizer_folder) as old:
        await fill(old, 2)
        await upload_of_acme(old, b"The lighthouse keeper of acme counts pelicans. " * 10)
        manifest = await old.back_up(Place.open(place, make=True))
        before = await found_by_acme(old)
        assert before
    restored = await asyncio.to_thread(murphey, "restore", place, "--data", str(tmp_path / "new"))
    assert restored["chunks"] == manifest.chunks
    async with running_mesh(tmp_path / "new", tokenizer_folder) as new:
        assert await found_by_acme(new) == before
        assert not any("pelicans" in chunk.text for chunk in await new.retriever.found("counts pelicans"))


async def upload_of_acme(mesh: RunningMesh, content: bytes) -> None:
    async def requests() -> AsyncIterator[ingest_pb2.UploadDocumentRequest]:
        yield ingest_pb2.UploadDocumentRequest(header=ingest_pb2.UploadHeader(display_name="acme.txt"))
        yield ingest_pb2.UploadDocumentRequest(data=content)

    begun = await mesh.service.stub.UploadDocument(requests(), metadata=ACME, timeout=30)
    watched = mesh.service.stub.WatchJob(ingest_pb2.WatchJobRequest(name=begun.job.name), metadata=ACME, timeout=60)
    states = [response.job.state async for response in watched]
    assert states[-1] == ingest_pb2.JOB_STATE_SUCCEEDED


async def found_by_acme(mesh: RunningMesh) -> list[str]:
    request = retriever_pb2.SearchRequest(text="counts pelicans")
    return [hit.chunk.text for hit in (await mesh.retriever.stub.Search(request, metadata=ACME, timeout=30)).passages]


async def test_what_changes_meanwhile_is_whole(tmp_path: Path, tokenizer_folder: Path) -> None:  # noqa: F811
    """Uploads, new versions and deletions at every step of a backup."""
    place = Place.open(str(tmp_path / "backups"), make=True)
    async with running_mesh(tmp_path / "old", tokenizer_folder) as old:
        await fill(old)
        ended = asyncio.Event()

        async def change() -> None:
            number = 0
            while not ended.is_set():
                await old.service.ingest(f"d{number % 6}.txt", text(number, f"version {number}"))
                await old.service.ingest(f"n{number}.txt", text(number, "new"))
                gone = await old.service.document(f"n{number}.txt")
                if number % 2:
                    await old.service.stub.DeleteDocument(_named(gone.name))
                number += 1

        changing = asyncio.create_task(change())
        manifests = [await old.back_up(place) for _ in range(3)]
        ended.set()
        await changing
    assert len({manifest.id for manifest in manifests}) == 3
    for number, manifest in enumerate(manifests):
        data = tmp_path / f"new{number}"
        await asyncio.to_thread(murphey, "restore", place.url, "--id", manifest.id, "--data", str(data))
        async with running_mesh(data, tokenizer_folder) as new:
            for job in (await new.service.stub.ListJobs(_all_jobs())).jobs:
                await new.service.ended(job.name)  # what was under way goes on
            assert await new.orphans() == []
            texts = await new.texts()
            assert {f"d{each}.txt" for each in range(6, 12)} <= texts.keys()
            assert all(texts[f"d{each}.txt"] == text(each).decode() for each in range(6, 12))


def _named(name: str) -> Any:
    return ingest_pb2.DeleteDocumentRequest(name=name)


def _all_jobs() -> Any:
    return ingest_pb2.ListJobsRequest(page_size=1000)


async def test_the_second_backup_writes_what_is_new(tmp_path: Path, tokenizer_folder: Path) -> None:  # noqa: F811
    async with running_mesh(tmp_path / "old", tokenizer_folder) as old:
        await fill(old)
        written: list[int] = []
        for _ in range(2):
            place = Place.open(str(tmp_path / "backups"), make=True)
            await old.back_up(place)
            written.append(place.written_bytes)
    files = [path for path in (tmp_path / "backups" / "files").rglob("*") if path.is_file()]
    assert len({path.name for path in files}) == len(files)
    assert written[1] < written[0] / 2


@pytest.mark.parametrize("stop_at", ["chunks", "files", "cuts", "rows"])
async def test_an_interrupted_backup_leaves_the_last_good_one(
    tmp_path: Path,
    tokenizer_folder: Path,  # noqa: F811
    stop_at: str,
) -> None:
    place = Place.open(str(tmp_path / "backups"), make=True)
    async with running_mesh(tmp_path / "old", tokenizer_folder) as old:
        await fill(old, 6)
        good = await old.back_up(place)
        await fill(old, 8)

        def stop(what: str, more: int) -> None:
            if what == stop_at:
                raise Unavailable("The process is gone.")

        with pytest.raises(Unavailable, match="gone"):
            await old.back_up(Place.open(place.url), stop)
    assert await place.manifests() == [good.id]
    assert (await asyncio.to_thread(murphey, "backup", "verify", place.url))["backup"] == good.id
    await place.keep_only(0)  # as the next backup does: what was left goes
    restored = await asyncio.to_thread(murphey, "restore", place.url, "--data", str(tmp_path / "new"))
    assert restored["chunks"] == good.chunks


async def test_into_an_object_store(tmp_path: Path, tokenizer_folder: Path) -> None:  # noqa: F811
    place = Place(MemoryStore(), "memory:///")
    async with running_mesh(tmp_path / "old", tokenizer_folder) as old:
        await fill(old, 4)
        async with place.locked():
            manifest = await old.back_up(place)
        assert await place.keep_only(1) == []
    assert (await place.manifest()).id == manifest.id
    for blob in manifest.blobs():
        assert await place.blob(blob)


async def test_a_mesh_that_is_stopped_by_the_command(tmp_path: Path, tokenizer_folder: Path) -> None:  # noqa: F811
    data, place = str(tmp_path / "old"), str(tmp_path / "backups")
    async with running_mesh(tmp_path / "old", tokenizer_folder) as old:
        await fill(old, 4)
        before = await old.answers(*QUESTIONS)
    (tmp_path / "old" / "evaluations").mkdir()
    (tmp_path / "old" / "evaluations" / "run.json").write_text("{}")
    first = await asyncio.to_thread(murphey, "backup", place, "--data", data)
    second = await asyncio.to_thread(murphey, "backup", place, "--keep", "1", "--data", data)
    assert second["dropped"] == [first["backup"]]
    assert second["chunks"] == first["chunks"] > 0
    listed = await asyncio.to_thread(murphey, "backup", "list", place)
    assert [each["backup"] for each in listed["backups"]] == [second["backup"]]
    assert "not empty" in await asyncio.to_thread(refused, "restore", place, "--data", data)
    again = await asyncio.to_thread(murphey, "restore", place, "--replace", "--data", data)
    assert again["before"].endswith(f"old.before-{second['backup']}")
    assert (tmp_path / "old" / "evaluations" / "run.json").read_text() == "{}"
    async with running_mesh(tmp_path / "old", tokenizer_folder) as new:
        assert await new.answers(*QUESTIONS) == before
        assert await new.orphans() == []
