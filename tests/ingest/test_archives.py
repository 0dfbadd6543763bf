"""Members of archives are documents: they come, change and go with their archive, and nothing else changes them."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service, sha256
from tests.ingest.test_syncing import run

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = "These words stand in {} and nowhere else. "


def words(name: str) -> bytes:
    return (WORDS.format(name) * 30).encode()


def zipped(**members: bytes) -> bytes:
    """Members by name, `__` for `/` and a suffix for those without one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/") + ("" if name.endswith("zip") else ".txt"), data)
    return buffer.getvalue()


async def members(service: Service, archive: str, **request: Any) -> dict[str, pb.Document]:
    """By name below the archive's."""
    document = await service.document(archive)
    found = await service.stub.ListDocuments(pb.ListDocumentsRequest(archive=document.name, page_size=1000, **request))
    return {member.display_name.removeprefix(f"{archive}/"): member for member in found.documents}


async def settled(service: Service, archive: str) -> dict[str, pb.Document]:
    """The members when all of their jobs have ended."""
    for member in (await members(service, archive)).values():
        await service.ended(member.job)
    return await members(service, archive)


async def ingest(service: Service, name: str, data: bytes, **header: Any) -> dict[str, pb.Document]:
    job = await service.ingest(name, data, **header)
    assert job.state == pb.JOB_STATE_SUCCEEDED, job.error.message
    return await settled(service, name)


async def test_each_member_is_a_document_with_the_archives_metadata(service: Service) -> None:
    inner = zipped(deep=words("deep"))

    found = await ingest(
        service, "all.zip", zipped(docs__a=words("a"), inner_zip=inner, empty=b""), metadata={"year": 2024}, batch="b"
    )

    assert set(found) == {"docs/a.txt", "empty.txt", "inner_zip/deep.txt"}
    for name in ("docs/a.txt", "inner_zip/deep.txt"):
        member = found[name]
        assert (member.state, member.metadata["year"]) == (pb.DOCUMENT_STATE_LIVE, 2024)
        chunks = service.retriever.found(member.name)
        assert len(chunks) == member.chunk_count > 1
        assert all(chunk.display_name == f"all.zip/{name}" for chunk in chunks)
        assert (await service.text(member)).startswith("These words stand in")
    archive = await service.document("all.zip")
    assert (archive.state, archive.members) == (pb.DOCUMENT_STATE_LIVE, pb.MemberCounts(live=2, failed=1))
    assert all(member.archive == archive.name for member in found.values())
    assert "empty" in found["empty.txt"].error.message
    assert set(await members(service, "all.zip", state=pb.DOCUMENT_STATE_FAILED)) == {"empty.txt"}
    jobs = (await service.stub.ListJobs(pb.ListJobsRequest(batch="b"))).jobs
    assert sorted(job.archive for job in jobs) == ["", *[archive.name] * 3]


async def test_a_new_version_of_an_archive_embeds_only_what_changed(service: Service) -> None:
    before = await ingest(service, "v.zip", zipped(same=words("same"), other=words("other"), gone=words("gone")))
    embedded = service.retriever.embedded.total()

    after = await ingest(service, "v.zip", zipped(same=words("same"), other=words("another"), new=words("new")))

    assert set(after) == {"same.txt", "other.txt", "new.txt"}
    assert after["same.txt"] == before["same.txt"]
    assert after["other.txt"].version != before["other.txt"].version
    chunks = sum(after[name].chunk_count for name in ("other.txt", "new.txt"))
    listing = (await service.document("v.zip")).chunk_count
    assert service.retriever.embedded.total() - embedded == chunks + listing
    assert service.retriever.found(before["gone.txt"].name) == []


async def test_other_metadata_reaches_the_members_without_embedding(service: Service) -> None:
    data = zipped(a=words("relabelled"))
    before = await ingest(service, "label.zip", data, metadata={"year": 1})
    embedded = service.retriever.embedded.total()

    sent = await service.upload("label.zip", b"", metadata={"year": 2}, sha256=sha256(data))

    assert sent.job.outcome == pb.JOB_OUTCOME_REPLACED
    after = await members(service, "label.zip")
    assert (after["a.txt"].version, after["a.txt"].metadata["year"]) == (before["a.txt"].version, 2)
    assert all(chunk.metadata["year"] == 2 for chunk in service.retriever.found(after["a.txt"].name))
    assert service.retriever.embedded.total() == embedded


async def test_a_member_that_failed_makes_other_metadata_go_the_whole_way(service: Service) -> None:
    data = zipped(a=words("half"), empty=b"")
    await ingest(service, "half.zip", data, metadata={"year": 1})
    embedded = service.retriever.embedded.total()

    after = await ingest(service, "half.zip", data, metadata={"year": 2})

    assert [after[name].metadata["year"] for name in ("a.txt", "empty.txt")] == [2, 2]
    assert service.retriever.embedded.total() - embedded <= (await service.document("half.zip")).chunk_count


async def test_what_is_an_archive_no_longer_has_no_members(service: Service) -> None:
    [member] = (await ingest(service, "turns.zip", zipped(a=words("turns")))).values()

    await service.ingest("turns.zip", b"Now it is a text.")

    assert await members(service, "turns.zip") == {}
    assert service.retriever.found(member.name) == []
    assert not (await service.document("turns.zip")).HasField("members")


async def test_a_damaged_new_version_leaves_the_members_as_they_were(service: Service) -> None:
    data = zipped(a=words("kept"))
    before = await ingest(service, "cut.zip", data)

    job = await service.ingest("cut.zip", data[:-40])

    assert (job.state, "damaged" in job.error.message) == (pb.JOB_STATE_FAILED, True)
    assert await members(service, "cut.zip") == before


async def test_an_archive_is_deleted_with_its_members_and_leaves_nothing(service: Service) -> None:
    found = await ingest(service, "gone.zip", zipped(a=words("one"), b=words("two"), empty=b""))
    archive = await service.document("gone.zip")
    chunks = archive.chunk_count + sum(member.chunk_count for member in found.values())

    deleted = await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=archive.name))

    assert deleted.deleted_chunks == chunks
    left = await service.stub.ListDocuments(pb.ListDocumentsRequest(display_name_prefix="gone.zip"))
    assert list(left.documents) == []
    request = pb.FindOrphansRequest(minimum_age=Duration())
    orphans = [each.orphan async for each in service.stub.FindOrphans(request) if each.HasField("orphan")]
    assert orphans == []
    for name in (archive.name, *(member.name for member in found.values())):
        assert not [path for path in service.objects() if name.rsplit("/", 1)[1] in str(path)]


async def test_deleting_an_archive_while_its_members_are_on_their_way(service: Service) -> None:
    service.retriever.gate.clear()
    sent = await service.upload("early.zip", zipped(a=words("early"), b=words("soon")))
    await service.retriever.upserting.wait()
    service.retriever.gate.set()

    await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=sent.document.name))

    left = await service.stub.ListDocuments(pb.ListDocumentsRequest(display_name_prefix="early.zip"))
    assert list(left.documents) == []


@pytest.mark.slow
async def test_a_command_waits_for_the_members_and_sync_lets_them_be(service: Service, tmp_path: Path) -> None:
    (tmp_path / "sent.zip").write_bytes(zipped(x__a=words("waited"), y=words("also"), empty=b""))
    first = await run(service, tmp_path, "sync/")
    again = await run(service, tmp_path, "sync/")
    (tmp_path / "sent.zip").rename(tmp_path / "other.zip")
    embedded = service.retriever.embedded.total()
    renamed = await run(service, tmp_path, "sync/")

    assert first == {
        "sent.zip": "indexed", "sent.zip/x/a.txt": "indexed", "sent.zip/y.txt": "indexed", "sent.zip/empty.txt": "failed",
    }  # fmt: skip
    assert again == {"sent.zip": "unchanged"}
    assert {name: status for name, status in renamed.items() if status != "indexed"} == {
        "other.zip/empty.txt": "failed", "sent.zip": "removed",
    }  # fmt: skip
    left = await service.stub.ListDocuments(pb.ListDocumentsRequest(display_name_prefix="sync/sent.zip"))
    assert list(left.documents) == []
    listing = (await service.document("sync/other.zip")).chunk_count
    assert service.retriever.embedded.total() - embedded == listing
