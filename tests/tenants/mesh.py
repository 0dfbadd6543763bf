"""All four services with keys, in this process, over real gRPC: what a tenant has in them, and what a caller hears.

The models alone are stood in for: words as random directions, and a generator that says back what it was asked.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mesh.access import keys
from mesh.access.identity import TENANT
from mesh.access.internal import internal_key
from mesh.access.roles import Scope
from mesh.access.storage import StoredKeys, open_keys
from mesh.server import Hosted, serving
from mesh.settings import ServiceSettings
from murphey.generator.v1 import generator_pb2 as gen
from murphey.generator.v1 import generator_pb2_grpc
from murphey.ingest.v1 import ingest_pb2 as ing
from murphey.orchestrator.v1 import orchestrator_pb2 as orc
from murphey.retriever.v1 import retriever_pb2 as ret
from orchestrator.app import open_service as open_orchestrator
from orchestrator.settings import OrchestratorSettings
from tests.ingest.conftest import running_service
from tests.ingest.real_retriever import serving_real_retriever
from tests.orchestrator.fakes import FakeGenerator

SERVICES = tuple(
    file.services_by_name[name]
    for file, name in (
        (orc.DESCRIPTOR, "OrchestratorService"),
        (ing.DESCRIPTOR, "IngestService"),
        (ret.DESCRIPTOR, "RetrieverService"),
        (gen.DESCRIPTOR, "GeneratorService"),
    )
)
METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods
}
ALL_SCOPES = (Scope.READ, Scope.WRITE, Scope.ADMIN)
Metadata = tuple[tuple[str, str], ...]


class EchoGenerator(FakeGenerator):
    """Says the question with its sources, so that all that reaches the model reaches the asker."""

    async def StreamGenerate(self, request, context):
        self.script = [str(request.prompt)]
        async for event in super().StreamGenerate(request, context):
            yield event

    async def Generate(self, request: gen.GenerateRequest, context: Any) -> gen.GenerateResponse:
        return gen.GenerateResponse(text=str(request.prompt))

    async def ListModels(self, request: gen.ListModelsRequest, context: Any) -> gen.ListModelsResponse:
        return gen.ListModelsResponse(models=[gen.Model(name=self.name)])


@dataclass(frozen=True)
class Heard:
    """How a call ended, and every byte that came back."""

    code: grpc.StatusCode
    messages: tuple[Any, ...]
    told: bytes
    status: bytes = b""
    """The `google.rpc.Status` of a call that failed."""


@dataclass
class TenantMesh:
    """Where the services answer, and their keys."""

    targets: dict[str, str]
    data: Path
    stored: StoredKeys
    channels: dict[str, grpc.aio.Channel]

    async def key(self, tenant: str, *scopes: Scope, days: float | None = None, revoked: bool = False) -> Metadata:
        """What the holder of a new key sends."""
        now = datetime.now(UTC)
        expires = None if days is None else now + timedelta(days=days)
        shown, key = keys.issue("test", tenant, frozenset(scopes or ALL_SCOPES), now, expires)
        await self.stored.add(key)
        if revoked:
            await self.stored.revoke(key.id)
        return (("authorization", f"Bearer {shown}"),)

    def internal(self, *claimed: str) -> Metadata:
        """What a service sends that calls for a tenant."""
        secret = internal_key(None, self.data)
        return (("authorization", f"Bearer {secret}"), *((TENANT, tenant) for tenant in claimed))

    async def call(self, method: str, requests: Message | Iterable[Message], metadata: Metadata) -> Heard:
        """Any method, by its descriptor."""
        described = METHODS[method]
        kind = f"{_kind(described.client_streaming)}_{_kind(described.server_streaming)}"
        make = getattr(self.channels[described.containing_service.full_name], kind)
        stub = make(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        sent = iter([requests] if isinstance(requests, Message) else requests)
        call = stub(sent if described.client_streaming else next(sent), timeout=60, metadata=metadata)
        heard: list[Message] = []
        try:
            if described.server_streaming:
                async for message in call:
                    heard.append(message)
            else:
                heard.append(await call)
        except grpc.aio.AioRpcError as error:
            trailing = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, bytes)}
            status = trailing.get("grpc-status-details-bin", b"")
            told = b"".join(message.SerializeToString() for message in heard)
            return Heard(error.code(), tuple(heard), told + (error.details() or "").encode() + status, status)
        return Heard(grpc.StatusCode.OK, tuple(heard), b"".join(message.SerializeToString() for message in heard))

    async def done(self, method: str, requests: Message | Iterable[Message], metadata: Metadata) -> Any:
        """The answer of a call that must end well; the last one of a stream."""
        heard = await self.call(method, requests, metadata)
        assert heard.code is grpc.StatusCode.OK, heard.told
        return heard.messages[-1]


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def named(service: str, method: str) -> str:
    """`ingest`, `GetJob` -> the full name of the method."""
    (found,) = (full for full in METHODS if f".{service}." in full and full.endswith(f"/{method}"))
    return found


@asynccontextmanager
async def tenant_mesh(data: Path, tokenizer: Path, **settings: Any) -> AsyncIterator[TenantMesh]:
    """Runs while inside; `settings` are all services'."""
    shared: dict[str, Any] = {"data": data, "auth": "keys", "drain_s": 0.2, **settings}
    async with AsyncExitStack() as stack:
        retriever = await stack.enter_async_context(serving_real_retriever(data, **shared))
        add = partial(generator_pb2_grpc.add_GeneratorServiceServicer_to_server, EchoGenerator())
        hosted = [Hosted(SERVICES[3].full_name, add)]
        generator = await stack.enter_async_context(serving(ServiceSettings(**shared), hosted))
        others = {name: value for name, value in shared.items() if name not in ("data", "drain_s")}
        ingest = await stack.enter_async_context(
            running_service(**others, data=data, tokenizer=tokenizer, target=retriever.target)
        )
        chosen = OrchestratorSettings(
            **shared, retriever=retriever.target, generator=f"127.0.0.1:{generator}", ingest=ingest.address,
            minimum_relevance=0,
        )  # fmt: skip
        hosted = await stack.enter_async_context(open_orchestrator(chosen))
        orchestrator = await stack.enter_async_context(serving(chosen, hosted))
        ports = [f"127.0.0.1:{orchestrator}", ingest.address, retriever.target, f"127.0.0.1:{generator}"]
        targets = {service.full_name: port for service, port in zip(SERVICES, ports, strict=True)}
        channels = {
            name: await stack.enter_async_context(grpc.aio.insecure_channel(target)) for name, target in targets.items()
        }
        stored = await stack.enter_async_context(open_keys("", data))
        yield TenantMesh(targets, data, stored, channels)


async def settled(mesh: TenantMesh, metadata: Metadata, job: str) -> ing.Job:
    """The job when it has ended well."""
    async with asyncio.timeout(120):
        last = await mesh.done(named("ingest", "WatchJob"), ing.WatchJobRequest(name=job), metadata)
    assert last.job.state == ing.JOB_STATE_SUCCEEDED, last
    return last.job
