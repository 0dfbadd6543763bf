"""Whether a service answers: gRPC health, or the gateway's /healthz."""

import asyncio
import urllib.error
import urllib.request
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.access.tls import Certificates
from mesh.channel import DIRECT_OPTIONS

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


async def is_healthy(
    address: str, protocol: str = "grpc", timeout_s: float = 2.0, certificates: Certificates | None = None
) -> bool:
    """One check. False for a service that is not reached, and for one that says it is not serving."""
    if protocol == "http":
        return await asyncio.to_thread(_http_ok, f"http://{address}/healthz", timeout_s)
    async with _channel(address, certificates) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def _channel(address: str, certificates: Certificates | None) -> grpc.aio.Channel:
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=DIRECT_OPTIONS)
    pems = certificates.pems
    tls = grpc.ssl_channel_credentials(pems.roots, pems.key, pems.chain)
    return grpc.aio.secure_channel(address, tls, options=DIRECT_OPTIONS)


def _http_ok(url: str, timeout_s: float) -> bool:
    try:
        with _direct.open(url, timeout=timeout_s) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
