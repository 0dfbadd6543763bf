"""Two of each service on this machine, behind one target each: what a rolling restart needs.

The retriever is alone: its embedded store lets one process in. With a Qdrant server it could be two as well. Orchestrators and
ingest workers share a database, SQLite in one data folder or Postgres by URL. A restart is what an orchestrator of containers
does: SIGTERM, wait for the end, start again on the same address.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from bench.local_mesh import free_port
from mesh import threads
from mesh.health import is_healthy
from mesh.up import gateway_binary

READY_WITHIN_S, ENDED_WITHIN_S = 180.0, 60.0
REPLICATED = ("generator", "ingest", "orchestrator", "gateway")
"""In the order in which they are started and restarted."""


@dataclass
class Replica:
    """A process of a service that keeps its address over its lives."""

    service: str
    command: tuple[str, ...]
    address: str
    metrics: str
    log: Path
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Returns when it is healthy. RuntimeError when it does not become so."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=dict(self.environment)
            )
        protocol = "http" if self.service == "gateway" else "grpc"
        async with asyncio.timeout(READY_WITHIN_S):
            while not await is_healthy(self.address, protocol):
                if self.process.returncode is not None:
                    raise RuntimeError(f"The {self.service} does not start: {self.log.read_text()[-1000:]}")
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """With SIGTERM, as Kubernetes does; returns when it has ended."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), ENDED_WITHIN_S)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def restart(self) -> None:
        """One of a rolling restart."""
        await self.stop()
        await self.start()

    async def counted(self, metric: str, label: str = "") -> float:
        """The sum of a metric over its labels, those that hold this text."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            text = (await client.get(f"http://{self.metrics}/metrics")).text
        pattern = re.compile(rf"^{re.escape(metric)}(?:{{(.*)}})? (\S+)$", re.MULTILINE)
        return sum(float(value) for labels, value in pattern.findall(text) if label in labels)


@dataclass(frozen=True)
class Replicas:
    """The running processes, by service, and the target that names all of a service."""

    of: dict[str, list[Replica]]

    def target(self, service: str) -> str:
        """For any channel of the mesh."""
        return target_of(self.of[service])


def target_of(replicas: list[Replica]) -> str:
    """`ipv4:///127.0.0.1:1,127.0.0.1:2`."""
    return f"ipv4:///{','.join(replica.address for replica in replicas)}"


@asynccontextmanager
async def replicas(
    data: Path, databases: Mapping[str, str], environment: Mapping[str, str], count: int = 2
) -> AsyncIterator[Replicas]:
    """All healthy while inside. `databases` are the URLs of ingest and orchestrator where they are not SQLite in `data`."""
    shared = dict(os.environ) | dict(environment)
    threads.limit(shared)
    running: dict[str, list[Replica]] = {}

    def targets(*services: str) -> dict[str, str]:
        return {name: target_of(running[name]) for name in services}

    async with AsyncExitStack() as stack:

        async def start(service: str, how_many: int, **flags: str) -> None:
            url = {"database-url": databases[service]} if service in databases else {}
            made = [_replica(service, number, data, {**flags, **url}, shared) for number in range(how_many)]
            running[service] = made
            for replica in made:
                stack.push_async_callback(replica.stop)
            await asyncio.gather(*(replica.start() for replica in made))

        await asyncio.gather(start("retriever", 1), start("generator", count))
        await start("ingest", count, **targets("retriever"))
        await start("orchestrator", count, **targets("retriever", "generator", "ingest"))
        await start("gateway", count, **targets("retriever", "generator", "ingest", "orchestrator"))
        yield Replicas(running)


def _replica(
    service: str, number: int, data: Path, flags: Mapping[str, str], environment: Mapping[str, str]
) -> Replica:
    address, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    options = tuple(f"--{name}={value}" for name, value in flags.items())
    if service == "gateway":
        command = (str(gateway_binary()), f"--listen={address}", *options)
    else:
        ports = (f"--port={address.rpartition(':')[2]}", f"--metrics-port={metrics.rpartition(':')[2]}")
        command = (sys.executable, "-m", service, f"--data={data}", *ports, *options)
    return Replica(service, command, address, metrics, data / f"{service}-{number}.log", environment)
