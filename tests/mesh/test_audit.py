"""The audit log: what stands in it, what does not, and that it neither grows without end nor holds up a call."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from mesh import logs
from mesh.access import audit
from mesh.access.audit import audit_path, resource_of
from mesh.access.credentials import Access
from mesh.access.internal import internal_key
from mesh.access.quota_settings import Quota
from mesh.access.roles import Scope
from mesh.channel import open_channel
from mesh.cli import build
from mesh.settings import ServiceSettings
from murphey.ingest.v1 import ingest_pb2 as ing
from murphey.ingest.v1 import ingest_pb2_grpc
from murphey.orchestrator.v1 import orchestrator_pb2 as orc
from murphey.retriever.v1 import retriever_pb2 as pb
from tests.mesh.guarded import INGEST, Guarded, guarded
from tests.mesh.test_gate import MADE_UP, bearer, calling, search


def entries(data: Path, service: str = "mesh") -> list[dict[str, Any]]:
    path = audit_path(data, service)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def delete(server: Guarded, key: str, name: str) -> grpc.StatusCode:
    async with calling(server, bearer(key)) as stub:
        try:
            await stub.DeleteCollection(pb.DeleteCollectionRequest(name=name), timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_changes_and_refusals_are_written_down_and_reading_is_not(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        reader = await server.key(Scope.READ, tenant="acme")
        admin = await server.key(Scope.ADMIN, tenant="acme")
        assert await search(server, bearer(reader)) is grpc.StatusCode.OK
        assert await delete(server, admin, "collections/notes") is grpc.StatusCode.OK
        assert await delete(server, reader, "collections/notes") is grpc.StatusCode.PERMISSION_DENIED
        assert await search(server, bearer(MADE_UP)) is grpc.StatusCode.UNAUTHENTICATED
    found = entries(tmp_path)
    kept = [(each["tenant"], each["caller"], each["method"].rpartition("/")[2], each["outcome"]) for each in found]
    assert kept == [
        ("acme", admin.split("_")[1], "DeleteCollection", "OK"),
        ("acme", reader.split("_")[1], "DeleteCollection", "PERMISSION_DENIED"),
        ("", "", "Search", "UNAUTHENTICATED"),
    ]
    assert [each["resource"] for each in found] == ["collections/notes", "", ""]  # what is refused is not read
    assert "mk_000000000000_***" in found[2]["reason"]
    assert all(each["service"] == "mesh" and each["time"].endswith("+00:00") for each in found)
    text = audit_path(tmp_path, "mesh").read_text()
    assert not [secret for secret in (reader, admin, MADE_UP) if secret.split("_", 2)[2] in text]


async def test_what_services_do_among_themselves_is_not_written_down(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        internal = (bearer(internal_key(None, tmp_path)), ("murphey-tenant", "acme"))
        async with calling(server, *internal) as stub:
            await stub.DeleteChunks(pb.DeleteChunksRequest(), timeout=20)
            await stub.DeleteCollection(pb.DeleteCollectionRequest(name="collections/notes"), timeout=20)
    assert entries(tmp_path) == []


async def test_an_upload_is_named_and_its_text_is_not_told(tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[ing.UploadDocumentRequest]:
        yield ing.UploadDocumentRequest(header=ing.UploadHeader(display_name="plan.txt"))
        yield ing.UploadDocumentRequest(data=b"a secret plan")

    async with guarded(tmp_path) as server:
        key = bearer(await server.key(Scope.WRITE))
        async with open_channel(f"127.0.0.1:{server.port}", INGEST, [], Access(lambda: [key])) as channel:
            stub: Any = ingest_pb2_grpc.IngestServiceStub(channel)  # pyright: ignore[reportArgumentType]
            await stub.UploadDocument(parts(), timeout=20)
    (found,) = entries(tmp_path)
    assert (found["method"].rpartition("/")[2], found["outcome"]) == ("UploadDocument", "OK")
    assert "secret plan" not in str(found)


@pytest.mark.parametrize(
    ("messages", "name"),
    [
        ((pb.DeleteCollectionRequest(name="collections/a"),), "collections/a"),
        ((pb.CreateCollectionRequest(collection=pb.Collection(name="collections/b")),), "collections/b"),
        ((ing.ReindexCollectionRequest(name="collections/c"),), "collections/c"),
        ((ing.ListDocumentsRequest(parent="collections/d"),), "collections/d"),
        (
            (ing.UploadDocumentResponse(document=ing.Document(name="collections/e/documents/f")),),
            "collections/e/documents/f",
        ),
        ((orc.CreateConversationRequest(title="private"), orc.CreateConversationResponse()), ""),
        ((orc.AnswerRequest(question=orc.Question(text="private", collection="collections/g")),), "collections/g"),
        ((pb.RerankRequest(query="private", texts=["private"]),), ""),
        ((None,), ""),
        ((pb.DeleteCollectionRequest(name="n" * 1_000),), "n" * 300),
    ],
)
def test_what_a_call_is_about(messages: tuple[Any, ...], name: str) -> None:
    assert resource_of(*messages) == name


async def test_a_flood_of_refusals_pushes_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_REFUSALS", 3.0)
    monkeypatch.setattr(audit, "REFUSALS_PER_S", 0.0001)
    before = REGISTRY.get_sample_value("murphey_audit_lost_total", {"service": "mesh"}) or 0
    async with guarded(tmp_path) as server:
        admin = await server.key(Scope.ADMIN)
        for _ in range(10):
            await search(server, bearer(MADE_UP))
        assert await delete(server, admin, "collections/notes") is grpc.StatusCode.OK
    outcomes = [each["outcome"] for each in entries(tmp_path)]
    assert outcomes == ["UNAUTHENTICATED"] * 3 + ["OK"]
    assert REGISTRY.get_sample_value("murphey_audit_lost_total", {"service": "mesh"}) == before + 7


async def test_a_full_file_is_kept_aside_and_the_oldest_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MEBIBYTE", 10_000)  # with nine files kept, a thousand bytes each
    async with guarded(tmp_path, audit_log_mib=1, quotas={"*": Quota(requests_per_s=0)}) as server:
        admin = await server.key(Scope.ADMIN)
        for number in range(60):
            await delete(server, admin, f"collections/c{number}")
    files = list((tmp_path / "audit").iterdir())
    assert 2 < len(files) <= 10
    assert all(file.stat().st_size <= 1_000 for file in files)
    assert entries(tmp_path)[-1]["resource"] == "collections/c59"


async def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs.configure("mesh")
    audit_path(tmp_path, "mesh").mkdir(parents=True)
    before = REGISTRY.get_sample_value("murphey_audit_lost_total", {"service": "mesh"}) or 0
    async with guarded(tmp_path) as server:
        admin = await server.key(Scope.ADMIN)
        for _ in range(3):
            assert await delete(server, admin, "collections/notes") is grpc.StatusCode.OK
    assert REGISTRY.get_sample_value("murphey_audit_lost_total", {"service": "mesh"}) == before + 3
    assert capfd.readouterr().err.count("audit_log_not_written") == 1


async def test_all_that_waits_is_written_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_WAITING", 2)
    path = audit_path(tmp_path, "mesh")
    path.parent.mkdir()
    os.mkfifo(path)  # who writes to it waits for a reader, as for a slow disk
    before = REGISTRY.get_sample_value("murphey_audit_lost_total", {"service": "mesh"}) or 0

    def write() -> None:
        with audit.open_log(ServiceSettings(data=tmp_path)) as opened:
            for number in range(10):
                opened.note_command("acme", "keys create", f"keys/{number}")

    writing = asyncio.create_task(asyncio.to_thread(write))
    read = (await asyncio.to_thread(path.read_text)).splitlines()
    await writing
    lost = (REGISTRY.get_sample_value("murphey_audit_lost_total", {"service": "mesh"}) or 0) - before
    assert len(read) >= 2
    assert len(read) + lost == 10


async def test_nothing_is_written_where_nobody_is_asked_or_it_is_not_wanted(tmp_path: Path) -> None:
    for settings in ({"auth": "off"}, {"audit_log_mib": 0}):
        async with guarded(tmp_path, **settings) as server:
            await delete(server, await server.key(Scope.ADMIN), "collections/notes")
    assert not (tmp_path / "audit").exists()


async def test_where_pods_lose_their_files_it_stands_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure("mesh")
    async with guarded(tmp_path, audit_log="log") as server:
        await delete(server, await server.key(Scope.ADMIN, tenant="acme"), "collections/notes")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"audit"' in line]
    assert [(line["tenant"], line["resource"], line["outcome"]) for line in lines] == [
        ("acme", "collections/notes", "OK")
    ]
    assert not (tmp_path / "audit").exists()


def test_keys_that_are_made_and_revoked_are_written_down(tmp_path: Path) -> None:
    run, root = CliRunner(), build()
    made = run.invoke(root, ["keys", "create", "web", "--tenant", "acme", "--json", "--data", str(tmp_path)])
    key = json.loads(made.stdout)
    run.invoke(root, ["keys", "revoke", key["id"], "--data", str(tmp_path)])
    found = entries(tmp_path)
    assert [(each["tenant"], each["method"], each["resource"]) for each in found] == [
        ("acme", "keys create", f"keys/{key['id']}"),
        ("acme", "keys revoke", f"keys/{key['id']}"),
    ]
    assert key["key"] not in audit_path(tmp_path, "mesh").read_text()
