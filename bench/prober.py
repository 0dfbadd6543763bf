"""Watches a mesh from a process of its own: paced searches and health checks, until its standard input ends.

`python -m bench.prober --retriever HOST:PORT --services HOST:PORT,… --collection C`. Calls start on schedule, whether or
not the last one has been answered, so that a stall is seen by every call that falls into it. Prints one JSON line.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench import corpora
from bench.options import AFRESH
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

SEARCHES_PER_S = 20.0
CHECKS_PER_S = 10.0
TIMEOUT_S = 30.0

Probe = Callable[[], Awaitable[object]]


class Paced:
    """Starts a call at a fixed rate and keeps how long each took, in milliseconds; failures apart."""

    def __init__(self, probe: Probe, per_s: float) -> None:
        self._probe, self._interval_s = probe, 1 / per_s
        self.latencies_ms: list[float] = []
        self.failures: list[str] = []

    async def run(self, ended: asyncio.Event) -> None:
        """Until `ended`, and then until the last call is answered."""
        next_s = time.perf_counter()
        async with asyncio.TaskGroup() as calls:
            while not ended.is_set():
                calls.create_task(self._call())
                next_s += self._interval_s
                await asyncio.sleep(max(0.0, next_s - time.perf_counter()))

    async def _call(self) -> None:
        started_s = time.perf_counter()
        try:
            await self._probe()
        except grpc.aio.AioRpcError as error:
            self.failures.append(f"{error.code().name}: {error.details()}")
        else:
            self.latencies_ms.append((time.perf_counter() - started_s) * 1000)


async def watch(retriever: str, services: list[str], collection: str) -> dict[str, list[float] | list[str]]:
    """Latencies of searches and of health checks of all services."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: _end_at_eof(ended))
    channels = [grpc.aio.insecure_channel(address) for address in [retriever, *services]]
    stub = RetrieverServiceStub(channels[0])
    questions = iter([query.text for query in corpora.queries("squad2-half")] * 100)

    def search() -> Awaitable[object]:
        request = pb.SearchRequest(collection=collection, text=next(questions), limit=10, cache=AFRESH)
        return stub.Search(request, timeout=TIMEOUT_S)

    searches = Paced(search, SEARCHES_PER_S)
    checks = [Paced(_check(channel), CHECKS_PER_S) for channel in channels[1:]]
    try:
        await asyncio.gather(*(paced.run(ended) for paced in [searches, *checks]))
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return {
        "search_ms": searches.latencies_ms,
        "health_ms": [latency for check in checks for latency in check.latencies_ms],
        "failures": [failure for paced in [searches, *checks] for failure in paced.failures],
    }


def _check(channel: grpc.aio.Channel) -> Probe:
    health: Any = health_pb2_grpc.HealthStub(channel)
    return lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)


def _end_at_eof(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        ended.set()


def main() -> None:
    """Prints what it saw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--retriever", required=True)
    parser.add_argument("--services", required=True)
    parser.add_argument("--collection", required=True)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(watch(arguments.retriever, arguments.services.split(","), arguments.collection))))


if __name__ == "__main__":
    main()
