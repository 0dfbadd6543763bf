"""The orchestrator before a retriever that asks for keys: it shows its own, and tells for whom it calls."""

import contextlib
from pathlib import Path

import grpc.aio
import pytest

from mesh.access import credentials
from mesh.access.credentials import Access
from mesh.access.roles import Scope
from mesh.channel import open_channel
from mesh.server import serving
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1 import orchestrator_pb2_grpc as pb_grpc
from orchestrator.app import SERVICE, open_service
from orchestrator.settings import OrchestratorSettings
from tests.mesh.guarded import guarded


async def test_a_search_is_made_with_the_services_key_for_the_askers_tenant(tmp_path: Path) -> None:
    async with guarded(tmp_path) as behind:
        target = f"127.0.0.1:{behind.port}"
        settings = OrchestratorSettings(
            data=tmp_path, auth="keys", drain_s=0.1, retriever=target, generator=target, ingest=target
        )
        key = await behind.key(Scope.READ, tenant="acme")
        async with open_service(settings) as hosted, serving(settings, hosted) as port:
            question = pb.AnswerRequest(question=pb.Question(text="Who calls?"))
            async with open_channel(f"127.0.0.1:{port}", SERVICE, []) as channel:
                stub = pb_grpc.OrchestratorServiceStub(channel)  # pyright: ignore[reportArgumentType]
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.Answer(question, timeout=20)
                assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert behind.retriever.callers == []
            async with open_channel(f"127.0.0.1:{port}", SERVICE, [], Access(credentials.api_key(key))) as channel:
                stub = pb_grpc.OrchestratorServiceStub(channel)  # pyright: ignore[reportArgumentType]
                with contextlib.suppress(grpc.aio.AioRpcError):  # nothing generates here
                    await stub.Answer(question, timeout=20)
        callers = behind.retriever.callers + behind.generator.callers
        assert behind.retriever.callers
        assert {caller and (caller.caller, caller.tenant) for caller in callers} == {("internal", "acme")}
