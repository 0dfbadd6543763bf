"""Every RPC of the contract, tried on another tenant's things with every kind of credential: nothing is told or changed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from mesh.access.identity import TENANT
from mesh.access.roles import ROLES, Scope
from tests.ingest.conftest import tokenizer_folder
from tests.tenants.attempts import ATTEMPTS
from tests.tenants.belongings import Belongings, check_whole, fill
from tests.tenants.mesh import Heard, Metadata, TenantMesh, named, tenant_mesh

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
__all__ = ["tokenizer_folder"]

UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


@dataclass
class Neighbours:
    """Three tenants of one mesh; the first is the one that others are after."""

    mesh: TenantMesh
    acme: Belongings
    rival: Belongings
    default: Belongings


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbours(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> AsyncIterator[Neighbours]:
    async with tenant_mesh(tmp_path_factory.mktemp("tenants"), tokenizer_folder) as mesh:
        yield Neighbours(mesh, *[await fill(mesh, tenant) for tenant in ("acme", "rival", "default")])


async def _tried(near: Neighbours, metadata: Callable[[str], Awaitable[Metadata] | Metadata]) -> dict[str, Heard]:
    """Every RPC with what a credential says, those that only read first; nothing of acme's is told and all of it stays."""
    heard: dict[str, Heard] = {}
    order = list(Scope)
    for method in sorted(ATTEMPTS, key=lambda method: order.index(ROLES[method])):
        sent = metadata(method)
        shown = sent if isinstance(sent, tuple) else await sent
        heard[method] = await near.mesh.call(method, ATTEMPTS[method](near.acme), shown)
        known = [f"{near.acme.tenant}-drawer".encode(), f"{near.acme.tenant}-batch".encode()]  # the attempts' own words
        told = heard[method].told
        assert not [mark for mark in near.acme.marks if mark in told and mark not in known], (method, told)
    await check_whole(near.mesh, near.acme)
    return heard


async def test_another_tenants_key_finds_nothing_and_changes_nothing(neighbours: Neighbours) -> None:
    heard = await _tried(neighbours, lambda _: neighbours.rival.key)
    for method, found in heard.items():
        internal = ROLES[method] is Scope.INTERNAL
        assert (found.code is DENIED) == internal, (method, found.told)
        assert found.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), (method, found.told)
    there = [method.rpartition("/")[2] for method, found in heard.items() if found.code is grpc.StatusCode.NOT_FOUND]
    assert {"GetConversation", "DeleteConversation", "GetAnswer", "DeleteAnswer", "ReplayAnswer", "StreamAnswer"} <= {
        *there
    }
    assert "RateAnswer" in there
    assert {"GetJob", "WatchJob", "CancelJob", "RetryJob", "GetDocument", "GetDocumentText"} <= {*there}
    assert {"DownloadDocument", "GetCollection", "ReindexCollection"} <= {*there}


async def test_the_default_tenants_key_does_not_see_all(neighbours: Neighbours) -> None:
    await _tried(neighbours, lambda _: neighbours.default.key)


async def test_a_claim_beside_a_key_means_nothing(neighbours: Neighbours) -> None:
    await _tried(neighbours, lambda _: (*neighbours.rival.key, (TENANT, "acme")))


async def test_without_a_key_nothing_is_answered(neighbours: Neighbours) -> None:
    for metadata in ((), ((TENANT, "acme"),)):
        heard = await _tried(neighbours, lambda _, metadata=metadata: metadata)
        assert {found.code for found in heard.values()} == {UNAUTHENTICATED}


@pytest.mark.parametrize("ended", [{"days": 0}, {"revoked": True}], ids=["expired", "revoked"])
async def test_the_tenants_own_key_that_has_ended_opens_nothing(
    neighbours: Neighbours, ended: dict[str, float]
) -> None:
    key = await neighbours.mesh.key("acme", **ended)  # pyright: ignore[reportArgumentType]
    heard = await _tried(neighbours, lambda _: key)
    assert {found.code for found in heard.values()} == {UNAUTHENTICATED}


async def test_another_secret_behind_the_tenants_key_id_opens_nothing(neighbours: Neighbours) -> None:
    ((name, value),) = neighbours.acme.key
    forged = value[:-43] + "A" * 43
    heard = await _tried(neighbours, lambda _: ((name, forged),))
    assert {found.code for found in heard.values()} == {UNAUTHENTICATED}


async def test_the_tenants_own_key_without_the_scope_is_refused(neighbours: Neighbours) -> None:
    keys = {
        scope: await neighbours.mesh.key("acme", *({Scope.READ, Scope.WRITE, Scope.ADMIN} - {scope})) for scope in Scope
    }
    heard = await _tried(neighbours, lambda method: keys[ROLES[method]])
    assert {found.code for found in heard.values()} == {DENIED}


async def test_a_service_that_calls_for_another_tenant_stays_there(neighbours: Neighbours) -> None:
    await _tried(neighbours, lambda _: neighbours.mesh.internal("rival"))
    method, theirs = named("retriever", "ReadChunks"), neighbours.acme
    read = await neighbours.mesh.call(method, ATTEMPTS[method](theirs), neighbours.mesh.internal("acme"))
    assert b"acme-code" in read.told  # so that what was attempted would have told it


@pytest.mark.parametrize("claims", [(), ("acme", "rival"), ("",), ("ACME",), ("acme.notes",), ("*",)])
async def test_a_service_must_say_for_which_one_tenant_it_calls(
    neighbours: Neighbours, claims: tuple[str, ...]
) -> None:
    heard = await _tried(neighbours, lambda _: neighbours.mesh.internal(*claims))
    assert {found.code for found in heard.values()} == {DENIED}
