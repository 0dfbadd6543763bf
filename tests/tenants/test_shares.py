"""What a tenant may keep and ask for, in services that run: refused when it has that, and never at another one's cost."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2

from ingest import space
from mesh.access.quota_settings import Quota
from murphey.ingest.v1 import ingest_pb2 as ing
from tests.ingest.conftest import tokenizer_folder
from tests.tenants.mesh import Heard, Metadata, TenantMesh, named, settled, tenant_mesh

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
__all__ = ["tokenizer_folder"]
MEBIBYTE = 1024 * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> AsyncIterator[TenantMesh]:
    quotas = {
        "small": Quota(storage_mib=1),
        "few": Quota(documents=2),
        "slow": Quota(requests_per_s=0.01, burst_requests=1),
    }
    async with tenant_mesh(tmp_path_factory.mktemp("shares"), tokenizer_folder, quotas=quotas) as running:
        yield running


@pytest.fixture(autouse=True)
def counted_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "COUNTED_FOR_S", 0.0)
    monkeypatch.setattr(space, "SHARE_OF_TIME", 1.0)


async def upload(mesh: TenantMesh, key: Metadata, name: str, data: bytes, announced: bool = False) -> Heard:
    header = ing.UploadHeader(display_name=name, size_bytes=len(data) if announced else 0)
    pieces = [data[at : at + 500_000] for at in range(0, len(data), 500_000)]
    requests = [ing.UploadDocumentRequest(header=header), *(ing.UploadDocumentRequest(data=piece) for piece in pieces)]
    return await mesh.call(named("ingest", "UploadDocument"), requests, key)


def check_refused(heard: Heard, reason: str) -> None:
    assert heard.code is grpc.StatusCode.RESOURCE_EXHAUSTED, heard.told
    status = status_pb2.Status.FromString(heard.status)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert any(detail.Unpack(retry) for detail in status.details)
    assert info.reason == reason
    assert retry.retry_delay.ToMilliseconds() > 0


@pytest.mark.parametrize("announced", [True, False])
async def test_a_tenant_keeps_as_many_bytes_as_its_quota_says(mesh: TenantMesh, announced: bool) -> None:
    key, other = await mesh.key("small"), await mesh.key("large")
    large = b"\x00\x01" * (MEBIBYTE // 2 + 1)
    check_refused(await upload(mesh, key, "large.bin", large, announced), "QUOTA_EXCEEDED")
    assert (await upload(mesh, key, "small.txt", b"A few words.", announced)).code is grpc.StatusCode.OK
    assert (await upload(mesh, other, "large.bin", large, announced)).code is grpc.StatusCode.OK
    listed = await mesh.done(named("ingest", "ListDocuments"), ing.ListDocumentsRequest(), key)
    assert [document.display_name for document in listed.documents] == ["small.txt"]


async def test_a_tenant_keeps_as_many_documents_as_its_quota_says_and_more_when_some_are_gone(mesh: TenantMesh) -> None:
    key = await mesh.key("few")
    for name in ("a.txt", "b.txt"):
        heard = await upload(mesh, key, name, b"The words of " + name.encode())
        job = await settled(mesh, key, heard.messages[0].job.name)
    check_refused(await upload(mesh, key, "c.txt", b"Other words."), "QUOTA_EXCEEDED")
    await mesh.done(named("ingest", "DeleteDocument"), ing.DeleteDocumentRequest(name=job.document), key)
    assert (await upload(mesh, key, "c.txt", b"Other words.")).code is grpc.StatusCode.OK


async def test_a_tenant_that_asks_too_often_waits_at_each_service_and_others_do_not(mesh: TenantMesh) -> None:
    key, other = await mesh.key("slow"), await mesh.key("quick")
    method = named("ingest", "ListDocuments")
    assert (await mesh.call(method, ing.ListDocumentsRequest(), key)).code is grpc.StatusCode.OK
    check_refused(await mesh.call(method, ing.ListDocumentsRequest(), key), "RATE_LIMITED")
    for _ in range(5):
        assert (await mesh.call(method, ing.ListDocumentsRequest(), other)).code is grpc.StatusCode.OK
