"""Whether a service answers: gRPC health, or the gateway's /healthz."""

import asyncio
import http.client
import ssl
import urllib.request
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.access.tls import Certificates
from mesh.channel import DIRECT_OPTIONS

_NO_PROXY = urllib.request.ProxyHandler({})


async def is_healthy(
    address: str, protocol: str = "grpc", timeout_s: float = 2.0, certificates: Certificates | None = None
) -> bool:
    """One check. False for a service that is not reached, and for one that says it is not serving."""
    if protocol == "http":
        return await asyncio.to_thread(_http_ok, address, timeout_s, certificates)
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


def _http_ok(address: str, timeout_s: float, certificates: Certificates | None) -> bool:
    scheme, handlers = "http", [_NO_PROXY]
    if certificates is not None:
        roots = certificates.pems.roots
        believed = ssl.create_default_context(cadata=None if roots is None else roots.decode("ascii", "ignore"))
        scheme, handlers = "https", [_NO_PROXY, urllib.request.HTTPSHandler(context=believed)]
    try:
        with urllib.request.build_opener(*handlers).open(f"{scheme}://{address}/healthz", timeout=timeout_s) as answer:
            return answer.status == 200
    except (http.client.HTTPException, OSError):  # the first where it speaks no HTTP, or not to its end
        return False
