"""The gate before a real server: who gets in with which credential, and what a refusal tells."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from mesh import logs
from mesh.access import credentials, gate, identity
from mesh.access.credentials import Access
from mesh.access.identity import Identity
from mesh.access.internal import internal_key
from mesh.access.roles import Scope
from mesh.channel import OPEN, open_channel
from mesh.deadline import call_options
from mesh.errors import FailedPrecondition
from murphey.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1 import retriever_pb2_grpc as pb_grpc
from tests.mesh.guarded import RETRIEVER, Guarded, guarded

DENIED = grpc.StatusCode.PERMISSION_DENIED
MADE_UP = f"mk_{'0' * 12}_{'A' * 43}"


@asynccontextmanager
async def calling(server: Guarded, *metadata: tuple[str, str]) -> AsyncIterator[pb_grpc.RetrieverServiceStub]:
    channel = open_channel(f"127.0.0.1:{server.port}", RETRIEVER, [], Access(lambda: list(metadata)))
    async with channel:
        yield pb_grpc.RetrieverServiceStub(channel)


async def search(server: Guarded, *metadata: tuple[str, str]) -> grpc.StatusCode:
    async with calling(server, *metadata) as stub:
        return await code_of(stub.Search(pb.SearchRequest(), timeout=20))


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


async def test_a_key_gets_in_by_either_header_and_is_the_callers_identity(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        key = await server.key(Scope.READ, tenant="acme")
        assert await search(server, bearer(key)) is grpc.StatusCode.OK
        assert await search(server, ("x-api-key", key)) is grpc.StatusCode.OK
        expected = Identity(key.split("_")[1], "acme", frozenset({Scope.READ}))
        assert server.retriever.callers == [expected, expected]


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [bearer("")],
        [bearer("nonsense")],
        [bearer(MADE_UP)],
        [("authorization", "Basic dXNlcjpwYXNz")],
        [("authorization", MADE_UP)],
        [("x-api-key", "")],
        [("x-api-key", "mk_' OR 1=1 --_" + "A" * 43)],
        [("murphey-tenant", "acme")],
    ],
)
async def test_without_a_true_key_nobody_gets_in(tmp_path: Path, metadata: list[tuple[str, str]]) -> None:
    async with guarded(tmp_path) as server:
        await server.key(Scope.READ)
        assert await search(server, *metadata) is grpc.StatusCode.UNAUTHENTICATED
        assert server.retriever.callers == []


async def test_one_letter_of_the_secret_makes_it_another_key(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        key = await server.key(Scope.READ)
        wrong = key[:-2] + ("A" if key[-2] != "A" else "B") + key[-1]
        assert await search(server, bearer(wrong)) is grpc.StatusCode.UNAUTHENTICATED
        assert await search(server, bearer(key)) is grpc.StatusCode.OK  # the failure was not remembered, nor is this
        assert await search(server, bearer(wrong)) is grpc.StatusCode.UNAUTHENTICATED


async def test_two_credentials_are_as_bad_as_none(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        key = await server.key(Scope.READ)
        assert await search(server, bearer(key), ("x-api-key", key)) is grpc.StatusCode.UNAUTHENTICATED
        assert await search(server, bearer(key), bearer(key)) is grpc.StatusCode.UNAUTHENTICATED


async def test_an_expired_key_is_refused(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        key = await server.key(Scope.READ, days=0)
        assert await search(server, bearer(key)) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_revoked_key_is_refused_once_it_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "KNOWN_FOR_S", 0.2)
    async with guarded(tmp_path) as server:
        key = await server.key(Scope.READ)
        assert await search(server, bearer(key)) is grpc.StatusCode.OK
        await server.stored.revoke(key.split("_")[1])
        async with asyncio.timeout(30), calling(server, bearer(key)) as stub:
            while await code_of(stub.Search(pb.SearchRequest(), timeout=20)) is grpc.StatusCode.OK:
                pass


async def test_a_scope_lets_in_where_it_is_needed_and_nowhere_else(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        allowed = {
            Scope.READ: (True, False, False),
            Scope.WRITE: (False, False, False),
            Scope.ADMIN: (False, True, False),
        }
        for scope, expected in allowed.items():
            async with calling(server, bearer(await server.key(scope))) as stub:
                calls = (
                    stub.Search(pb.SearchRequest(), timeout=20),
                    stub.DeleteCollection(pb.DeleteCollectionRequest(), timeout=20),
                    stub.DeleteChunks(pb.DeleteChunksRequest(), timeout=20),
                )
                codes = [await code_of(call) for call in calls]
            denied = grpc.StatusCode.PERMISSION_DENIED
            assert codes == [grpc.StatusCode.OK if let_in else denied for let_in in expected], scope


async def test_a_stream_is_refused_before_its_first_message(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server, calling(server, bearer(await server.key(Scope.ADMIN))) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.ListStoredVersions(pb.ListStoredVersionsRequest(), timeout=20):
                raise AssertionError("a message came")
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert server.retriever.callers == []


async def test_an_upload_is_refused_without_being_read(tmp_path: Path) -> None:
    async def parts() -> AsyncIterator[ingest_pb2.UploadDocumentRequest]:
        yield ingest_pb2.UploadDocumentRequest(data=b"a secret plan")

    async with guarded(tmp_path) as server:
        channel = open_channel(f"127.0.0.1:{server.port}", RETRIEVER, [], Access(lambda: [bearer(MADE_UP)]))
        async with channel:
            stub: Any = ingest_pb2_grpc.IngestServiceStub(channel)  # pyright: ignore[reportArgumentType]
            call = stub.UploadDocument(parts(), timeout=20)
            assert await code_of(call) is grpc.StatusCode.UNAUTHENTICATED
        assert server.ingest.received == 0


async def test_a_service_calls_for_the_tenant_of_its_own_caller(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        access = credentials.of_service(server.settings)
        async with open_channel(f"127.0.0.1:{server.port}", RETRIEVER, [], access) as channel:
            stub = pb_grpc.RetrieverServiceStub(channel)
            assert await code_of(stub.DeleteChunks(pb.DeleteChunksRequest(), timeout=20)) is DENIED  # for nobody
            await stub.DeleteChunks(pb.DeleteChunksRequest(), **call_options(20, "other"))
            token = identity.current.set(Identity("abc", "acme", frozenset({Scope.READ})))
            try:
                async for _ in stub.ListStoredVersions(pb.ListStoredVersionsRequest(), **call_options(20)):
                    pass
                await stub.DeleteChunks(pb.DeleteChunksRequest(), **call_options(20, "other"))
            finally:
                identity.current.reset(token)
        assert [caller and caller.tenant for caller in server.retriever.callers] == ["other", "acme", "other"]


@pytest.mark.parametrize("claims", [["acme", "other"], [""], ["ACME"], ["acme.notes"], ["a" * 64]])
async def test_a_service_calls_for_one_tenant(tmp_path: Path, claims: list[str]) -> None:
    async with guarded(tmp_path) as server:
        key = bearer(internal_key(None, tmp_path))
        assert await search(server, key, *(("murphey-tenant", claim) for claim in claims)) is DENIED
        assert server.retriever.callers == []


async def test_where_nobody_is_asked_a_service_still_tells_for_whom_it_calls(tmp_path: Path) -> None:
    async with guarded(tmp_path, auth="off") as server:
        for claim in ("acme", "default", "not one"):
            assert await search(server, ("murphey-tenant", claim)) is grpc.StatusCode.OK
        assert [caller and caller.tenant for caller in server.retriever.callers] == ["acme", None, None]


async def test_nobody_else_calls_for_another_tenant(tmp_path: Path) -> None:
    async with guarded(tmp_path) as server:
        key = await server.key(Scope.READ, tenant="acme")
        assert await search(server, bearer(key), ("murphey-tenant", "other")) is grpc.StatusCode.OK
        assert [caller and caller.tenant for caller in server.retriever.callers] == ["acme"]


async def test_probes_need_no_key_and_reflection_does(tmp_path: Path) -> None:
    async def asked() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async with guarded(tmp_path) as server:
        key = await server.key(Scope.READ)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # pyright: ignore[reportArgumentType]
            refused = reflection.ServerReflectionInfo(asked(), timeout=20)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await refused.read()
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            shown = reflection.ServerReflectionInfo(asked(), timeout=20, metadata=[bearer(key)])
            assert (await shown.read()).list_services_response.service


async def test_a_method_without_a_role_is_refused_to_everyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gate.ROLES, f"/{RETRIEVER}/Search")
    async with guarded(tmp_path) as server:
        every = await server.key(Scope.READ, Scope.WRITE, Scope.ADMIN)
        assert await search(server, bearer(every)) is grpc.StatusCode.PERMISSION_DENIED
        internal = internal_key(None, tmp_path)
        assert await search(server, bearer(internal), ("murphey-tenant", "default")) is DENIED


async def test_a_refusal_is_logged_once_counted_and_tells_no_secret(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure("mesh")
    labels = {"service": "mesh", "cause": "unknown"}
    before = REGISTRY.get_sample_value("murphey_refused_calls_total", labels) or 0
    async with guarded(tmp_path) as server, calling(server, bearer(MADE_UP)) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Search(pb.SearchRequest(), timeout=20)
    assert "mk_000000000000_***" in (caught.value.details() or "")
    assert REGISTRY.get_sample_value("murphey_refused_calls_total", labels) == before + 1
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines() if "UNAUTHENTICATED" in line]
    assert [line["refused"] for line in lines] == [caught.value.details()]
    assert "A" * 43 not in written + str(caught.value)


async def test_where_nobody_is_asked_nobody_has_an_identity(tmp_path: Path) -> None:
    async with guarded(tmp_path, auth="off") as server:
        assert await search(server) is grpc.StatusCode.OK
        assert await search(server, bearer(MADE_UP)) is grpc.StatusCode.OK
        assert server.retriever.callers == [None, None]
        assert credentials.of_service(server.settings) == OPEN
    assert not (tmp_path / "mesh" / "internal.key").exists()


def test_the_internal_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    first = internal_key(None, tmp_path)
    assert internal_key(None, tmp_path) == first
    path = tmp_path / "mesh" / "internal.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", [None, "", "short", "two words " * 8])
def test_a_configured_internal_key_must_be_one(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FailedPrecondition, match="secret"):
        internal_key(path, tmp_path)
