"""Streams through the generator: how many tokens a second a group of clients gets."""

import asyncio
import time

from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1.generator_pb2_grpc import GeneratorServiceStub

TIMEOUT_S = 600.0


async def tokens_per_s(stub: GeneratorServiceStub, requests: list[pb.StreamGenerateRequest]) -> float:
    """All streams at once, from the first request until the last finish."""
    started_s = time.perf_counter()
    counts = await asyncio.gather(*(_completion_tokens(stub, request) for request in requests))
    return sum(counts) / (time.perf_counter() - started_s)


async def _completion_tokens(stub: GeneratorServiceStub, request: pb.StreamGenerateRequest) -> int:
    call = stub.StreamGenerate(request, timeout=TIMEOUT_S)
    try:
        async for event in call:
            if event.HasField("finish"):
                return event.finish.usage.completion_tokens
    finally:
        call.cancel()
    raise RuntimeError("A stream ended without its finish.")
