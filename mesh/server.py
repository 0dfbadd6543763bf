"""The server of every service: what it listens on, what surrounds each call, how it starts and how it drains.

A service's app.py hands `main` its settings class and an async context manager that opens it. The manager is entered
before the server says SERVING and left after the last call has ended.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from mesh import logs, metrics, threads, tracing
from mesh.access import tls
from mesh.access.audit import open_audit
from mesh.access.gate import open_gate
from mesh.access.quotas import Quotas
from mesh.channel import SIZE_OPTIONS
from mesh.errors import InvalidInput, MurpheyError
from mesh.interceptor import CallBoundary
from mesh.settings import BAD_SETTINGS, ServiceSettings, problems

log = logs.get(__name__)

SWITCH_S = 0.001
"""After so long a thread that computes lets the event loop go on: with Python's 5 ms, a search beside a bulk upsert waited
several times for them."""
MAX_CONCURRENT_CALLS = 2_000
"""Calls beyond it are refused at once with RESOURCE_EXHAUSTED."""

MAX_METADATA_BYTES = 16 * 1024
"""Of a call's headers together; grpc's own default would refuse more and more of what is over half of that, by chance."""
LAME_DUCK_S = 0.5
"""A server that stops still takes calls for so long after it has said NOT_SERVING: those that are on their way to it would be
refused otherwise."""

HANDSHAKE_MS = 10_000
"""For TLS and the first frames: whoever connects and says nothing is cut off."""

_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10 * 60_000),
    *SIZE_OPTIONS,
]

AnySettings = TypeVar("AnySettings", bound=ServiceSettings)


class Readiness:
    """Whether a service can do its work now. While it cannot, its health says NOT_SERVING and callers go elsewhere."""

    def __init__(self) -> None:
        self.ready = True
        self._changed = asyncio.Event()

    def set(self, ready: bool) -> None:
        """Tells how it is now; from the event loop."""
        if ready != self.ready:
            self.ready = ready
            self._changed.set()

    async def changed(self) -> None:
        """Waits until it is another than when this was last called."""
        await self._changed.wait()
        self._changed.clear()


@dataclass(frozen=True)
class Hosted:
    """A gRPC service on a server: its full name, and the generated function that adds its servicer.

    `readiness` is for a service that may lose what it needs while its server runs on.
    """

    name: str
    add: Callable[[grpc.aio.Server], None]
    readiness: Readiness | None = None


OpenService = Callable[[AnySettings], AbstractAsyncContextManager[list[Hosted]]]


def main(settings_type: type[AnySettings], open_service: OpenService[AnySettings]) -> None:
    """Runs a service until it is told to stop; flags come from the command line. Exit 2: bad settings. 1: cannot start."""
    threads.limit()
    sys.setswitchinterval(SWITCH_S)
    try:
        settings = settings_type.from_flags(sys.argv[1:])
    except (ValidationError, InvalidInput) as error:
        sys.stderr.write(_explain(error, settings_type.service) + "\n")
        sys.exit(BAD_SETTINGS)
    logs.configure(settings.service, settings.log_level, settings.log_format)
    tracing.configure(settings.service, settings.otlp_endpoint)
    try:
        asyncio.run(run(settings, open_service))
    except MurpheyError as error:
        log.error("service_stopped", error=error.message)
        sys.exit(1)


async def run(settings: AnySettings, open_service: OpenService[AnySettings]) -> None:
    """Serves until SIGTERM or SIGINT, or until the supervisor that started this process is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if os.environ.get("MURPHEY_SUPERVISED") == "1":
            await _watch_supervisor(stop)
        if settings.metrics_port is not None:
            metrics.announce(settings.service)
            _serve_metrics(settings.metrics_host, settings.metrics_port)
        opening = asyncio.ensure_future(stack.enter_async_context(open_service(settings)))
        if not await _finished_before(opening, stop):
            return
        await stack.enter_async_context(serving(settings, opening.result()))
        gc.freeze()  # looking through what lives as long as the server stood the event loop still for 90 ms
        await stop.wait()
        log.info("service_draining", drain_s=settings.drain_s)


@asynccontextmanager
async def serving(settings: ServiceSettings, hosted: list[Hosted]) -> AsyncIterator[int]:
    """A healthy server while inside, drained on leaving; yields its port."""
    with open_audit(settings) as audit:
        async with open_gate(settings) as gate:
            boundary = CallBoundary(settings.service, gate, Quotas(settings), audit)
            async with _serving(settings, hosted, boundary) as port:
                yield port


@asynccontextmanager
async def _serving(settings: ServiceSettings, hosted: list[Hosted], boundary: CallBoundary) -> AsyncIterator[int]:
    server = grpc.aio.server(interceptors=[boundary], options=_OPTIONS, maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS)
    checks = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for service in hosted:
        service.add(server)
    names = [service.name for service in hosted]
    reflection.enable_server_reflection([*names, HEALTH_NAME, reflection.SERVICE_NAME], server)
    port = _bind(server, settings)
    await server.start()
    await _report_health(checks, hosted)
    follow = [
        asyncio.create_task(_follow(service.readiness, checks, hosted)) for service in hosted if service.readiness
    ]
    log.info("service_ready", address=f"{settings.host}:{port}")
    try:
        yield port
    finally:
        for task in follow:
            task.cancel()
        await checks.enter_graceful_shutdown()
        await asyncio.sleep(min(LAME_DUCK_S, settings.drain_s))
        await server.stop(settings.drain_s)


async def _report_health(checks: HealthServicer, hosted: list[Hosted]) -> None:
    """The server as a whole, whose name is empty, serves while all of its services do."""
    states = {service.name: service.readiness is None or service.readiness.ready for service in hosted}
    for name, ready in {**states, "": all(states.values())}.items():
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        await checks.set(name, status)


async def _follow(readiness: Readiness, checks: HealthServicer, hosted: list[Hosted]) -> None:
    while True:
        await readiness.changed()
        await _report_health(checks, hosted)


def _bind(server: grpc.aio.Server, settings: ServiceSettings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        credentials = tls.server_credentials(settings)
        address = f"{host}:{settings.port}"
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        message = f"Port {settings.port} of {settings.host} cannot be opened: is something else listening there?"
        raise InvalidInput(message, field="port") from error


def _serve_metrics(host: str, port: int) -> None:
    try:
        metrics.serve(host, port)
    except OSError as error:
        message = f"Port {port} of {host}, for metrics, cannot be opened: is something else listening there?"
        raise InvalidInput(message, field="metrics_port") from error


async def _finished_before(opening: asyncio.Future[list[Hosted]], stop: asyncio.Event) -> bool:
    """Waits for the service to open; False when it was told to stop first."""
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if opening.done():
        return True
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
    return False


async def _watch_supervisor(stop: asyncio.Event) -> None:
    """Standard input is a pipe that the supervisor holds open: its end means that the supervisor is gone, however it died."""

    class Watch(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            stop.set()

    await asyncio.get_running_loop().connect_read_pipe(Watch, sys.stdin)


def _explain(error: ValidationError | InvalidInput, service: str) -> str:
    if isinstance(error, InvalidInput):
        return f"{service}: {error.message}"
    return f"{service}: {problems(error)}"
