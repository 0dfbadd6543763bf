"""Services as processes that are killed with -9 and started again, and what their counters said over all their lives."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import psutil
from prometheus_client.mmap_dict import MmapedDict

from bench.local_mesh import free_port

READY_WITHIN_S = 180.0


@dataclass
class Victim:
    """A process that keeps its port and its data over its lives. `counters` is a folder where every life leaves its own."""

    name: str
    flags: list[str]
    log: Path
    environment: Mapping[str, str]
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    @property
    def target(self) -> str:
        """Where it answers."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when it answers. RuntimeError when it ends instead."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.name, *self.flags, f"--port={self.port}", stdout=log, stderr=log,
                env=dict(self.environment),
            )  # fmt: skip
        ended = asyncio.create_task(self.process.wait())
        async with grpc.aio.insecure_channel(self.target) as channel:
            ready = asyncio.create_task(channel.channel_ready())
            await asyncio.wait({ended, ready}, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
            came_up = ready.done() and not ready.cancelled()
            for task in (ended, ready):
                task.cancel()
        if not came_up:
            raise RuntimeError(f"The {self.name} does not start again; its log is {self.log}.")

    async def kill(self) -> None:
        """With -9."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()

    def kill_child(self) -> None:
        """A child process of it instead, such as the engine of the store or a parser: it must start that again by itself."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children()[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def counted(folder: Path, metric: str, **labels: str) -> float:
    """The sum of a counter over all processes that ever had it, killed ones too: `prometheus_client` keeps counters in files
    that outlive the process where PROMETHEUS_MULTIPROC_DIR names a folder."""
    total = 0.0
    for path in folder.glob("counter_*.db"):
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):
            _, name, found, _ = json.loads(key)
            total += value if (name, found) == (f"{metric}_total", labels) else 0
    return total
