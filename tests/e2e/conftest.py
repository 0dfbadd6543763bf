"""A real mesh for the end-to-end tests: `murphey up` on a data folder and ports of its own, stopped at the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import psutil
import pytest

MURPHEY = Path(sys.executable).with_name("murphey")
READY_WITHIN_S = 120
SPAN_OF_PORTS = 20


@dataclass
class Completed:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)

    def json_lines(self) -> list[Any]:
        """Standard output as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Mesh:
    """A running `murphey up`."""

    process: subprocess.Popen[str]
    data: Path
    http: str
    services: dict[str, str]
    events: Queue[dict[str, Any]] = field(repr=False)

    def murphey(self, *arguments: str, timeout_s: float = 120, env: dict[str, str] | None = None) -> Completed:
        """Runs a client command against this mesh."""
        command = [str(MURPHEY), *arguments, "--data", str(self.data)]
        environment = dict(os.environ) | {"COLUMNS": "200", **(env or {})}
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False)
        return Completed(done.returncode, done.stdout, done.stderr)

    def service_process(self, name: str) -> psutil.Process:
        """The process of a service, below the supervisor."""
        for child in psutil.Process(self.process.pid).children():
            command = child.cmdline()
            if f"-m {name}" in " ".join(command) or (name == "gateway" and "murphey-gateway" in command[0]):
                return child
        raise AssertionError(f"no process of {name} runs")

    def wait_for(self, matches: Callable[[dict[str, Any]], bool], timeout_s: float = READY_WITHIN_S) -> dict[str, Any]:
        """The next event of the supervisor that matches."""
        while True:
            try:
                event = self.events.get(timeout=timeout_s)
            except Empty:
                raise AssertionError(f"no such event of the supervisor within {timeout_s} s") from None
            if matches(event):
                return event

    def kill(self, name: str) -> None:
        """kill -9 of a service; returns once the supervisor has seen it."""
        process = self.service_process(name)
        process.send_signal(signal.SIGKILL)
        self.wait_for(lambda event: event.get("service") == name and "signal 9" in event["event"])

    def metric(self, service: str, name: str, label: str = "") -> float:
        """A metric's value, summed over its labels, or over those that hold this text."""
        import httpx

        host, port = self.services[service].split(":")
        lines = httpx.get(f"http://{host}:{int(port) + 10}/metrics").text.splitlines()
        rows = [line for line in lines if line.split("{")[0].split(" ")[0] == name and label in line]
        assert rows, f"the {service} has no metric {name} with {label!r}"
        return sum(float(row.rpartition(" ")[2]) for row in rows)


def free_port_base() -> int:
    """The first of a block of free ports."""
    for base in range(21_000 + os.getpid() % 400 * SPAN_OF_PORTS, 60_000, SPAN_OF_PORTS):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", base))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports")


def start_mesh(data: Path) -> Mesh:
    """Starts a mesh and waits until it is ready."""
    command = [str(MURPHEY), "up", "--data", str(data), "--port-base", str(free_port_base()), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    events: Queue[dict[str, Any]] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            events.put(json.loads(line))
        events.put({"event": "ended"})

    threading.Thread(target=read, daemon=True).start()
    mesh = Mesh(process, data, "", {}, events)
    event = mesh.wait_for(lambda event: event["event"] in ("ready", "ended"))
    if event["event"] == "ended":
        _, reason = process.communicate()
        raise AssertionError(f"murphey up failed: {reason}")
    mesh.http, mesh.services = event["http"], event["services"]
    return mesh


def stop_mesh(mesh: Mesh) -> None:
    """Ctrl-C; all processes of the mesh are gone afterwards."""
    children = psutil.Process(mesh.process.pid).children(recursive=True)
    mesh.process.send_signal(signal.SIGINT)
    assert mesh.process.wait(timeout=60) == 0
    for stream in (mesh.process.stdout, mesh.process.stderr):
        assert stream is not None
        stream.close()
    assert [child for child in children if child.is_running()] == []


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One mesh for all tests that leave it healthy."""
    running = start_mesh(tmp_path_factory.mktemp("mesh"))
    yield running
    stop_mesh(running)


@pytest.fixture(scope="module")
def fragile_mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh for a module's tests that kill its services."""
    running = start_mesh(tmp_path_factory.mktemp("fragile"))
    yield running
    stop_mesh(running)


def collection_named_like(test: str, mesh: Mesh) -> str:
    """Creates a collection of a test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in test.lower())[:50].strip("-")
    created = mesh.murphey("collections", "create", name)
    assert created.code == 0, created.err
    return name


@pytest.fixture
def collection(mesh: Mesh, request: pytest.FixtureRequest) -> str:
    """A collection of the test's own."""
    return collection_named_like(request.node.name, mesh)


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    """Three small documents with one fact each."""
    folder = tmp_path / "handbook"
    (folder / "crew").mkdir(parents=True)
    (folder / "kiln.md").write_text(
        "# The kiln\n\n## Firing\n\nThe big kiln is fired to 1,240 degrees Celsius on the first Monday of every month.\n\n"
        "## Cooling\n\nIt must cool for thirty-six hours before anybody opens the door.\n"
    )
    (folder / "crew" / "keys.txt").write_text(
        "Keys\n\nMarlene Oduya keeps the spare key of the glaze store in the blue tin behind the wheel room's clock.\n"
    )
    (folder / "prices.html").write_text(
        "<html><head><title>Prices</title></head><body><h1>Prices</h1><p>An open studio evening costs 18 euros, clay "
        "included.</p></body></html>"
    )
    return folder
