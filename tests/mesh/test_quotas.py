"""How much a tenant gets of a service: counted, refused with a time to come back, and never at another one's cost."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prometheus_client import REGISTRY
from pydantic import ValidationError

from mesh import metrics
from mesh.access.identity import Identity
from mesh.access.internal import internal_key
from mesh.access.quota_settings import Quota
from mesh.access.quotas import Quotas
from mesh.access.roles import Scope
from mesh.errors import Overloaded, QuotaExceeded, RateLimited, from_status, to_status
from mesh.settings import ServiceSettings
from murphey.retriever.v1 import retriever_pb2 as pb
from tests.mesh.guarded import guarded
from tests.mesh.test_gate import bearer, calling, search

READER = frozenset({Scope.READ})
ACME, RIVAL = Identity("key", "acme", READER), Identity("key", "rival", READER)


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def quotas(clock: Clock, **quota: Any) -> Quotas:
    return Quotas(ServiceSettings(auth="keys", quotas={"*": Quota(**quota)}), clock)


def test_a_tenant_gets_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    limits = quotas(clock, requests_per_s=2, burst_requests=3)
    for _ in range(3):
        limits.admit(ACME)
    with pytest.raises(RateLimited) as refused:
        limits.admit(ACME)
    assert refused.value.retry_after_s == pytest.approx(0.5)
    limits.admit(RIVAL)  # has its own
    clock.now_s += 0.5
    limits.admit(ACME)
    with pytest.raises(RateLimited):
        limits.admit(ACME)
    clock.now_s += 3600
    for _ in range(3):  # what was not used is not saved up
        limits.admit(ACME)
    with pytest.raises(RateLimited):
        limits.admit(ACME)


def test_tokens_that_were_used_are_waited_for_afterwards() -> None:
    clock = Clock()
    limits = quotas(clock, tokens_per_minute=60)
    limits.admit_tokens(ACME)
    limits.spend_tokens(ACME, "prompt", 50)
    limits.admit_tokens(ACME)
    limits.spend_tokens(ACME, "completion", 100)  # whoever may begin may go on
    with pytest.raises(RateLimited) as refused:
        limits.admit_tokens(ACME)
    assert refused.value.retry_after_s == pytest.approx(91)  # 90 in debt, a token a second
    limits.admit_tokens(RIVAL)
    clock.now_s += 91
    limits.admit_tokens(ACME)


def test_no_bound_is_no_bound_and_nobody_is_counted_where_nobody_is_asked() -> None:
    limits = quotas(Clock(), requests_per_s=0, tokens_per_minute=0)
    off = Quotas(ServiceSettings(), Clock())
    for _ in range(1_000):
        limits.admit(ACME)
        off.admit(Identity("unasked", "acme", frozenset()))
    limits.spend_tokens(ACME, "prompt", 10**9)
    limits.admit_tokens(ACME)
    off.spend_tokens(None, "prompt", 10**9)
    off.admit_tokens(None)


def test_a_tenants_own_entry_is_over_everybodys_over_the_default() -> None:
    settings = ServiceSettings(
        auth="keys", quotas={"*": Quota(requests_per_s=5, documents=7), "acme": Quota(requests_per_s=50)}
    )
    assert settings.quota_of("acme") == Quota(requests_per_s=50, documents=7)
    assert settings.quota_of("rival") == Quota(requests_per_s=5, documents=7)
    assert ServiceSettings(auth="keys").quota_of("acme") == Quota()
    assert ServiceSettings().quota_of("acme").documents == 0


def test_quotas_come_from_the_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "murphey.toml"
    config.write_text(
        '[mesh]\nauth = "keys"\n\n[mesh.quotas."*"]\nrequests_per_s = 3\n\n[mesh.quotas.acme]\ndocuments = 9\n'
    )
    monkeypatch.setenv("MURPHEY_CONFIG", str(config))
    assert ServiceSettings().quota_of("acme") == Quota(requests_per_s=3, documents=9)
    monkeypatch.setenv("MURPHEY_QUOTAS", '{"acme": {"documents": 10}}')
    assert ServiceSettings().quota_of("acme") == Quota(documents=10)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"auth": "off", "quotas": {"*": {}}}, 'auth = "keys"'),
        ({"quotas": {"Acme": {}}}, "no tenant"),
        ({"quotas": {"acme": {"requests": 1}}}, "requests"),
        ({"quotas": {"acme": {"requests_per_s": -1}}}, "greater than or equal"),
        ({"quotas": "nonsense"}, "quotas"),
    ],
)
def test_quotas_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ServiceSettings(**{"auth": "keys", **wrong})


@pytest.mark.parametrize(
    "error", [RateLimited("a", retry_after_s=2.0), QuotaExceeded("b", retry_after_s=60.0), Overloaded("c")]
)
def test_each_refusal_keeps_its_kind_over_a_hop(error: Exception) -> None:
    assert isinstance(error, RateLimited | QuotaExceeded | Overloaded)
    again = from_status(to_status(error, "ingest"))
    assert (type(again), again.message, again.retry_after_s) == (type(error), error.message, error.retry_after_s)


async def test_a_call_too_many_is_refused_with_a_time_to_come_back_and_counted(tmp_path: Path) -> None:
    labels = {"service": "mesh", "tenant": "acme", "kind": "requests"}
    before = REGISTRY.get_sample_value("murphey_quota_refusals_total", labels) or 0
    share = {"acme": Quota(requests_per_s=0.01, burst_requests=2)}
    async with guarded(tmp_path, quotas=share) as server:
        key, other = await server.key(Scope.READ, tenant="acme"), await server.key(Scope.READ, tenant="rival")
        assert [await search(server, bearer(key)) for _ in range(2)] == [grpc.StatusCode.OK] * 2
        async with calling(server, bearer(key)) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Search(pb.SearchRequest(), timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(refused.value)  # pyright: ignore[reportArgumentType]
        retry = error_details_pb2.RetryInfo()
        assert status is not None
        assert any(detail.Unpack(retry) for detail in status.details)
        assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= 100
        assert await search(server, bearer(other)) is grpc.StatusCode.OK
        internal = bearer(internal_key(None, tmp_path))
        assert (
            await search(server, internal, ("murphey-tenant", "acme")) is grpc.StatusCode.OK
        )  # its caller was counted
        assert len(server.retriever.callers) == 4
    assert REGISTRY.get_sample_value("murphey_quota_refusals_total", labels) == before + 1


def test_labels_of_tenants_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_tenants", set())
    labels = {metrics.tenant_label(f"t{number}") for number in range(1_000)}
    assert len(labels) == metrics.MAX_TENANT_LABELS + 1
    assert metrics.tenant_label("t5") == "t5"
    assert metrics.tenant_label("t999") == "other"
