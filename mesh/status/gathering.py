"""The status of a mesh: the health of each service and what its metrics say, put into words that an operator looks for."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from mesh import discovery
from mesh.discovery import MeshAddresses
from mesh.health import is_healthy
from mesh.status.readings import Readings, read

FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""Codes of calls that the mesh failed; the others are the caller's, or are none."""
QUEUES = {
    "requests for a model": "murphey_generator_waiting_requests",
    "texts to embed": "murphey_embed_waiting_texts",
    "texts to rerank": "murphey_rerank_waiting_texts",
}
"""What waits, and the gauge that counts it."""


@dataclass(frozen=True)
class ServiceStatus:
    """One service. None where it cannot be known, as of a service that is down. Times are of all calls since its start.

    `faults` are calls that the service failed, not those that it refused because of what was asked.
    """

    name: str
    address: str
    healthy: bool
    version: str | None = None
    uptime_s: float | None = None
    memory_bytes: float | None = None
    calls: int | None = None
    faults: int | None = None
    running: int | None = None
    calls_per_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None


@dataclass(frozen=True)
class MeshStatus:
    """All services and what goes through them, as far as it is known. Rates are over the time between two looks."""

    services: tuple[ServiceStatus, ...]
    queues: dict[str, int]
    tokens_per_s: dict[str, float]
    cache_hit_rates: dict[str, float]
    jobs: dict[str, int]
    first_token_p50_s: float | None = None
    first_token_p95_s: float | None = None

    @property
    def down(self) -> list[ServiceStatus]:
        """The services that are not healthy."""
        return [service for service in self.services if not service.healthy]


@dataclass(frozen=True)
class Look:
    """What was seen of a mesh at a moment of the monotonic clock."""

    at_s: float
    addresses: MeshAddresses
    healthy: dict[str, bool]
    readings: dict[str, Readings]
    gateway_uptime_s: float | None


async def look(data: Path) -> Look:
    """The mesh of a data folder, now. Unavailable when none runs; Corrupt when its file is damaged; FailedPrecondition when
    its certificates cannot be read.
    """
    addresses = discovery.find(data)
    names, certificates = list(addresses.services), addresses.certificates()
    healthy = asyncio.gather(
        *(is_healthy(addresses.services[name], certificates=certificates) for name in names),
        is_healthy(addresses.gateway, "http", certificates=certificates),
    )
    shown = [name for name in names if name in addresses.metrics]
    readings = asyncio.gather(*(asyncio.to_thread(read, addresses.metrics[name]) for name in shown))
    states, found = await asyncio.gather(healthy, readings)
    return Look(
        time.monotonic(), addresses, dict(zip([*names, "gateway"], states, strict=True)),
        dict(zip(shown, found, strict=True)), _gateway_uptime_s(addresses.pid),
    )  # fmt: skip


def _gateway_uptime_s(supervisor: int) -> float | None:
    """The gateway has no metrics of its own: its process tells."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(supervisor).children():
            if child.name().startswith("murphey-gatewa"):  # Linux cuts names after 15 letters
                return time.time() - child.create_time()
    return None


def status(now: Look, before: Look | None = None) -> MeshStatus:
    """In words; rates only with an earlier look."""
    merged = _merged(now)
    lookups = "murphey_cache_lookups_total"
    hits, misses = merged.by("cache", lookups, result="hit"), merged.by("cache", lookups, result="miss")
    asked = {cache: hits.get(cache, 0) + misses.get(cache, 0) for cache in sorted({*hits, *misses})}
    jobs = {state: int(count) for state, count in merged.by("state", "murphey_ingest_jobs").items()}
    waiting = {name: int(merged.value(gauge)) for name, gauge in QUEUES.items() if merged.has(gauge)}
    if "queued" in jobs:
        waiting["documents to ingest"] = jobs["queued"]
    first = "murphey_answer_first_token_seconds"
    return MeshStatus(
        services=tuple(_service(name, now, before) for name in now.healthy),
        queues=waiting,
        tokens_per_s=_tokens_per_s(now, before) if before else {},
        cache_hit_rates={cache: hits.get(cache, 0) / count for cache, count in asked.items() if count},
        jobs=jobs,
        first_token_p50_s=merged.quantile(0.5, first),
        first_token_p95_s=merged.quantile(0.95, first),
    )


def _merged(at: Look) -> Readings:
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for readings in at.readings.values():
        for name, rows in readings.samples.items():
            samples.setdefault(name, []).extend(rows)
    return Readings(samples)


def _tokens_per_s(now: Look, before: Look) -> dict[str, float]:
    grown = _merged(now).since(_merged(before))
    elapsed_s = max(now.at_s - before.at_s, 1e-3)
    if not (now.readings.get("generator") and before.readings.get("generator")):
        return {}
    by_kind = grown.by("kind", "murphey_generator_tokens_total")
    return {kind: by_kind.get(kind, 0.0) / elapsed_s for kind in ("prompt", "completion")}


def _service(name: str, now: Look, before: Look | None) -> ServiceStatus:
    address = now.addresses.http if name == "gateway" else now.addresses.services[name]
    healthy, readings = now.healthy[name], now.readings.get(name, Readings())
    if not readings:
        uptime_s = now.gateway_uptime_s if name == "gateway" else None
        return ServiceStatus(name, address, healthy, uptime_s=uptime_s)
    calls, started_s = "murphey_grpc_calls_total", readings.value("process_start_time_seconds")
    earlier = before.readings.get(name) if before else None
    rate = None
    if before and earlier:
        rate = readings.since(earlier).value(calls) / max(now.at_s - before.at_s, 1e-3)
    return ServiceStatus(
        name, address, healthy,
        version=next(iter(readings.by("version", "murphey_build_info")), None),
        uptime_s=time.time() - started_s if started_s else None,
        memory_bytes=readings.value("process_resident_memory_bytes") or None,
        calls=int(readings.value(calls)),
        faults=int(readings.value(calls, code=FAULTS)),
        running=int(readings.value("murphey_grpc_running_calls")),
        calls_per_s=rate,
        p50_s=readings.quantile(0.5, "murphey_grpc_call_seconds"),
        p95_s=readings.quantile(0.95, "murphey_grpc_call_seconds"),
    )  # fmt: skip
