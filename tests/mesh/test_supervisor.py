"""The supervisor with real processes: order, restart, lock, ports, and nothing left behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from mesh import discovery
from mesh.discovery import MeshAddresses
from mesh.errors import FailedPrecondition, InvalidInput, Unavailable
from mesh.health import is_healthy
from mesh.supervisor import Service, Supervisor, supervised

SLEEPER = Path(__file__).with_name("sleeper.py")
ADDRESSES = MeshAddresses(os.getpid(), "http://127.0.0.1:1", {"retriever": "127.0.0.1:2"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sleeper(name: str, port: int | None = None) -> Service:
    port = port or free_port()
    return Service(name, (sys.executable, str(SLEEPER), str(port)), f"127.0.0.1:{port}")


class Events:
    """What the supervisor reports, awaitable."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def __call__(self, service: str, event: str) -> None:
        self.seen.append((service, event))
        self._changed.set()

    async def until(self, service: str, words: str) -> None:
        async with asyncio.timeout(20):
            while not any(name == service and words in event for name, event in self.seen):
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def mesh(waves: list[list[Service]], data: Path, events: Events) -> AsyncIterator[Supervisor]:
    async with supervised(waves, data, ADDRESSES, events) as supervisor:
        yield supervisor


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if str(SLEEPER) in process.cmdline()]


async def test_waves_start_in_order_and_all_are_stopped(tmp_path: Path) -> None:
    events = Events()
    first, second = sleeper("first"), sleeper("second")
    async with mesh([[first], [second]], tmp_path, events):
        assert [name for name, _ in events.seen] == ["first", "second"]
        assert await is_healthy(first.address)
        assert await is_healthy(second.address)
        assert discovery.find(tmp_path) == ADDRESSES
    assert children() == []
    with pytest.raises(Unavailable, match="murphey up"):
        discovery.find(tmp_path)


async def test_a_killed_service_comes_back(tmp_path: Path) -> None:
    events = Events()
    service = sleeper("only")
    async with mesh([[service]], tmp_path, events):
        children()[0].send_signal(signal.SIGKILL)
        await events.until("only", "signal 9")
        events.seen.clear()
        await events.until("only", "healthy")
        assert await is_healthy(service.address)
    assert children() == []


@pytest.mark.slow
async def test_a_service_that_never_starts_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = Service("broken", (sys.executable, str(SLEEPER), "broken"), f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="cannot read the model"):
        async with mesh([[broken]], tmp_path, Events()):
            pass
    assert children() == []


async def test_a_second_mesh_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with mesh([[sleeper("only")]], tmp_path, Events()):
        with pytest.raises(FailedPrecondition, match="already runs"):
            async with mesh([[sleeper("other")]], tmp_path, Events()):
                pass
        assert len(children()) == 1


async def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InvalidInput, match="--port-base"):
            async with mesh([[sleeper("first"), sleeper("late", other.getsockname()[1])]], tmp_path, Events()):
                pass
    assert children() == []


def test_a_service_ends_when_its_supervisor_is_gone() -> None:
    environment = dict(os.environ) | {"MURPHEY_SUPERVISED": "1"}
    command = [sys.executable, str(SLEEPER), str(free_port())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=20) == 0
