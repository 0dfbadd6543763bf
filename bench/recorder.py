"""What the orchestrator asks the generator, without knowing how: prompts recorded at the contract.

A second orchestrator, in a process of its own, is pointed at a generator that keeps each prompt and answers with a word at
once. Only token counts go on to the mesh's generator: its engine sees none of the prompts, and caches none.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from bench.children import module
from bench.local_mesh import LocalMesh, free_port
from mesh.channel import open_channel
from mesh.discovery import full_name
from mesh.health import is_healthy
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1.generator_pb2_grpc import (
    GeneratorServiceServicer,
    GeneratorServiceStub,
    add_GeneratorServiceServicer_to_server,
)
from murphey.orchestrator.v1.orchestrator_pb2 import AnswerRequest, StreamAnswerRequest
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub

_HEALTHY_WITHIN_S = 60.0


class Recorder(GeneratorServiceServicer):
    """Keeps the prompts of StreamGenerate; the rest is the mesh's generator's."""

    def __init__(self, generator: GeneratorServiceStub) -> None:
        self._generator = generator
        self.prompts: list[pb.StreamGenerateRequest] = []

    async def StreamGenerate(self, request: pb.StreamGenerateRequest, context: Any) -> AsyncIterator[Any]:
        """Keeps the prompt."""
        self.prompts.append(request)
        yield pb.StreamGenerateResponse(started=pb.Started(request_id="recorded", model=request.model))
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="Recorded.", tokens=1))
        usage = pb.Usage(prompt_tokens=1, completion_tokens=1)
        yield pb.StreamGenerateResponse(finish=pb.Finish(reason=pb.FINISH_REASON_STOP, usage=usage))

    async def CountTokens(self, request: pb.CountTokensRequest, context: Any) -> pb.CountTokensResponse:
        """Passed on."""
        return await self._generator.CountTokens(request, timeout=60)

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """Passed on."""
        return await self._generator.ListModels(request, timeout=60)

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        """Passed on."""
        return await self._generator.GetModel(request, timeout=60)


async def prompts_of(
    mesh: LocalMesh, requests: Iterable[StreamAnswerRequest], count: int
) -> list[tuple[StreamAnswerRequest, pb.StreamGenerateRequest]]:
    """The first `count` questions that lead to a prompt, each with it; declined ones lead to none."""
    found: list[tuple[StreamAnswerRequest, pb.StreamGenerateRequest]] = []
    async with mesh.channel("generator") as channel:
        recorder = Recorder(GeneratorServiceStub(channel))
        async with (
            _served(recorder) as generator,
            _orchestrator(mesh, generator) as address,
            open_channel(address, full_name("orchestrator"), []) as answers,
        ):
            stub = OrchestratorServiceStub(answers)
            for request in requests:
                recorder.prompts.clear()
                await stub.Answer(AnswerRequest(question=request.question), timeout=60)
                found += [(request, prompt) for prompt in recorder.prompts[:1]]
                if len(found) == count:
                    return found
    raise RuntimeError(f"Only {len(found)} of the {count} questions needed are answered from the documents.")


@asynccontextmanager
async def _served(recorder: Recorder) -> AsyncIterator[str]:
    """Its address. It says that it is healthy by having a health service, as channels of the mesh want."""
    server = grpc.aio.server()
    add_GeneratorServiceServicer_to_server(recorder, server)
    status = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    await status.set(full_name("generator"), health_pb2.HealthCheckResponse.SERVING)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(1)


@asynccontextmanager
async def _orchestrator(mesh: LocalMesh, generator: str) -> AsyncIterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        flags = [
            f"--port={port}", f"--data={data}", f"--retriever={mesh.services['retriever']}",
            f"--generator={generator}", f"--ingest={mesh.services['ingest']}",
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *module("orchestrator"), *flags, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(_HEALTHY_WITHIN_S):
                while not await is_healthy(f"127.0.0.1:{port}"):  # noqa: ASYNC110 - another process: nothing to await
                    await asyncio.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()
