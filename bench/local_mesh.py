"""A mesh of its own for a benchmark: `murphey up` on a scratch data folder and free ports, and what it costs.

Everything is measured from outside: over gRPC, by the command line, or from the operating system's books.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import psutil

from mesh.channel import open_channel
from mesh.discovery import ServiceName, full_name
from mesh.settings import default_models_folder
from mesh.up import METRICS_OFFSET, PORT_OFFSETS
from murphey.retriever.v1 import retriever_pb2
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

MURPHEY = (sys.executable, "-c", "from mesh.cli import main; main()")
"""The command, by this interpreter: works in a checkout as in an installation."""

_READY_WITHIN_S = 180.0
_STOPPED_WITHIN_S = 60.0
_QUIET_S = 5
_QUIET_CORES = 0.5
"""Less than an index build takes, more than the searches that probe meanwhile."""


@dataclass(frozen=True)
class LocalMesh:
    """A running mesh. `started_s` is the time from the command until all services were healthy."""

    data: Path
    process: subprocess.Popen[str]
    services: dict[str, str]
    http: str
    started_s: float

    def channel(self, service: ServiceName) -> grpc.aio.Channel:
        """A channel to one service. Close it."""
        return open_channel(self.services[service], full_name(service), [])

    async def create_collection(self, collection: str) -> None:
        """An empty collection with the default settings."""
        async with self.channel("retriever") as channel:
            message = retriever_pb2.Collection(name=f"collections/{collection}")
            request = retriever_pb2.CreateCollectionRequest(collection=message)
            await RetrieverServiceStub(channel).CreateCollection(request, timeout=60)

    def murphey(self, *arguments: str, timeout_s: float = 7200, bad_files: bool = False) -> list[dict[str, Any]]:
        """Runs a client command on this mesh."""
        return murphey(*arguments, "--data", str(self.data), timeout_s=timeout_s, bad_files=bad_files)

    def memory_bytes(self, *, mapped: bool = True) -> dict[str, int]:
        """Proportional set size of every process, summed by service: shared pages are counted once. Without `mapped`, pages
        of files are left out, which the system takes back when it needs them; only Linux tells them apart."""
        sizes: dict[str, int] = {}
        for child in psutil.Process(self.process.pid).children():
            name = self._service_of(child)
            sizes[name] = sum(_pss(process, mapped) for process in [child, *child.children(recursive=True)])
        return sizes | {"supervisor": _pss(psutil.Process(self.process.pid), mapped)}

    def settle(self, service: str, timeout_s: float = 600) -> None:
        """Blocks until a service's processes, index builds included, have used little of the CPU for five seconds."""
        quiet, deadline_s = 0, time.monotonic() + timeout_s
        while quiet < _QUIET_S and time.monotonic() < deadline_s:
            before_s = self._cpu_s(service)
            time.sleep(1)
            quiet = quiet + 1 if self._cpu_s(service) - before_s < _QUIET_CORES else 0

    def _cpu_s(self, service: str) -> float:
        children = psutil.Process(self.process.pid).children()
        roots = [child for child in children if self._service_of(child) == service]
        return sum(_cpu_s(process) for root in roots for process in [root, *root.children(recursive=True)])

    def _service_of(self, process: psutil.Process) -> str:
        command = " ".join(process.cmdline()[:4])
        return next((name for name in PORT_OFFSETS if name in command), command)


def murphey(*arguments: str, timeout_s: float = 7200, bad_files: bool = False) -> list[dict[str, Any]]:
    """Runs a client command with `--json` and returns its lines. RuntimeError when it fails; with `bad_files`, exit code 1
    only says that some file could not be read.
    """
    done = subprocess.run(
        [*MURPHEY, *arguments, "--json"], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if done.returncode != 0 and not (bad_files and done.returncode == 1):
        raise RuntimeError(f"murphey {arguments[0]} failed ({done.returncode}): {done.stderr[-1500:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def models_folder() -> Path:
    """Where this machine's mesh finds its models."""
    return Path(os.environ.get("MURPHEY_MODELS") or default_models_folder())


@contextmanager
def local_mesh(**environment: str) -> Iterator[LocalMesh]:
    """A mesh while inside; stopped and its data deleted on leaving. RuntimeError, with the logs' ends, when it fails."""
    data = Path(tempfile.mkdtemp(prefix="murphey-bench-"))
    port_base = _free_port_base()
    command = [*MURPHEY, "up", "--data", str(data), "--port-base", str(port_base), "--json"]
    try:
        with (data / "up.stderr").open("w") as errors:
            started_s = time.perf_counter()
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=dict(os.environ) | environment
            )
        with process:
            try:
                ready = _wait_until_ready(process, data)
                yield LocalMesh(data, process, ready["services"], ready["http"], time.perf_counter() - started_s)
            finally:
                _stop(process)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _wait_until_ready(process: subprocess.Popen[str], data: Path) -> dict[str, Any]:
    timer = threading.Timer(_READY_WITHIN_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event.get("event") == "ready":
                threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
                return event
    finally:
        timer.cancel()
    raise RuntimeError(f"The mesh did not start:\n{(data / 'up.stderr').read_text()[-2000:]}{_log_ends(data)}")


def _drain(stream: Any) -> None:
    """Later events have no reader, and a full pipe would stop the supervisor."""
    with contextlib.suppress(ValueError):
        for _ in stream:
            pass


def _log_ends(data: Path) -> str:
    logs = sorted((data / "logs").glob("*.log")) if (data / "logs").is_dir() else []
    return "".join(f"\n{path.name}: {path.read_text(errors='replace')[-800:]}" for path in logs)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOPPED_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port_base() -> int:
    """The first of a run of ports that are all free now; far from the defaults, so that a user's own mesh is let alone."""
    offsets = [*PORT_OFFSETS.values(), *(offset + METRICS_OFFSET for offset in PORT_OFFSETS.values())]
    for base in range(20_000 + os.getpid() % 500 * 40, 60_000, 40):
        if all(_is_free(base + offset) for offset in offsets):
            return base
    raise RuntimeError("No run of free ports was found between 20000 and 60000.")


def free_port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _pss(process: psutil.Process, mapped: bool = True) -> int:
    """Bytes; 0 for a process that has ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if mapped:
            return process.memory_full_info().pss
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return 0


def _cpu_s(process: psutil.Process) -> float:
    """Seconds of CPU, user and system; 0 for a process that has ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0
