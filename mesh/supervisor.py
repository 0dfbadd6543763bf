"""`murphey up`: every service of a mesh as a process on this machine, watched until it is told to stop.

Services start in waves, each wave healthy before the next. One that dies is started again with back-off. A lock in the
data folder keeps a second mesh off it. Each process holds one end of a pipe as its standard input, so that it ends when
the supervisor dies, however that happens. Logs go to files in the data folder.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh import discovery, threads
from mesh.access.tls import Certificates
from mesh.errors import FailedPrecondition, InvalidInput, Unavailable
from mesh.health import is_healthy
from mesh.settings import BAD_SETTINGS

HEALTHY_WITHIN_S = 120.0
"""A service that is not healthy after this long has failed to start."""
GIVE_UP_AFTER = 3
"""So many exits in a row before a service was ever healthy mean that it will not come up."""
MAX_BACKOFF_S = 30.0
STEADY_AFTER_S = 60.0
"""A service that ran this long starts again without back-off."""
KILL_AFTER_S = 20.0
MAX_LOG_BYTES = 50 * 1024 * 1024
"""Of a service's log; a full one is kept beside it, in place of the one before."""
LOOK_AT_LOGS_S = 60.0

Report = Callable[[str, str], None]
"""Told of (service, event), for the terminal."""


@dataclass(frozen=True)
class Service:
    """A process to run: its name, its command, and the `host:port` by which it is called."""

    name: str
    command: tuple[str, ...]
    address: str
    protocol: str = "grpc"
    opens: tuple[tuple[str, int], ...] = ()
    """Hosts and ports that it listens on: those of its calls, and others such as its metrics'."""


class Supervisor:
    """Keeps services running. Use through `supervised`."""

    def __init__(self, data: Path, report: Report, certificates: Certificates | None = None) -> None:
        self._logs = data / "logs"
        self._report = report
        self._certificates = certificates
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._watches: list[asyncio.Task[None]] = []
        self._came_up: dict[str, asyncio.Event] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with Unavailable when a service cannot be started, or is not watched any more."""
        self._watch(self._bound_logs(), "logs")

    async def start(self, wave: list[Service]) -> None:
        """Starts services together and waits until all are healthy. Unavailable when one does not come up."""
        for service in wave:
            self._came_up[service.name] = asyncio.Event()
            self._watch(self._keep(service), service.name)
        waits = asyncio.gather(*(self._came_up[service.name].wait() for service in wave))
        try:
            done, _ = await asyncio.wait(
                {waits, self.failed}, timeout=HEALTHY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)
        if self.failed in done:
            self.failed.result()
        if not done:
            late = [service for service in wave if not self._came_up[service.name].is_set()]
            ends = [f"{service.name}, whose log ends:\n{_last_lines(self._log_path(service), 3)}" for service in late]
            raise Unavailable(f"Not healthy after {HEALTHY_WITHIN_S:g} s: " + "\n".join(ends))

    async def stop(self) -> None:
        """Stops in the reverse order of the start; what does not end in time is killed."""
        for watch in self._watches:  # first, so that nothing is started again
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        for process in reversed(list(self._processes.values())):
            await _terminate(process)

    def _watch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        watch = asyncio.create_task(work, name=name)
        watch.add_done_callback(self._watch_ended)
        self._watches.append(watch)

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        """What nobody watches is not started again when it dies."""
        if not watch.cancelled() and (error := watch.exception()) is not None:
            self._fail(f"The {watch.get_name()} cannot be watched any more: {error!r}.")

    async def _keep(self, service: Service) -> None:
        exits = 0
        while True:
            started_s = time.monotonic()
            try:
                process = await self._spawn(service)
            except OSError as error:
                self._fail(f"The {service.name} cannot be run: {error}.")
                return
            health = asyncio.create_task(self._announce_health(service))
            try:
                code = await process.wait()
            finally:
                health.cancel()
            exits = 1 if time.monotonic() - started_s > STEADY_AFTER_S else exits + 1
            hopeless = exits >= GIVE_UP_AFTER or code == BAD_SETTINGS
            if hopeless and not self._came_up[service.name].is_set():
                log_end = _last_lines(self._log_path(service))
                self._fail(f"The {service.name} does not start ({_exit_text(code)}). The end of its log:\n{log_end}")
                return
            backoff_s = backoff_after(exits)
            self._tell(service.name, f"ended with {_exit_text(code)}; starting again in {backoff_s:g} s")
            await asyncio.sleep(backoff_s)

    async def _announce_health(self, service: Service) -> None:
        while not await is_healthy(service.address, service.protocol, certificates=self._certificates):
            await asyncio.sleep(0.1)  # another process: nothing to await
            if self._certificates is not None:
                self._certificates.renewed()
        self._came_up[service.name].set()
        self._tell(service.name, "healthy")

    def _tell(self, service: str, event: str) -> None:
        """To a terminal that may be gone, which stops no service."""
        with contextlib.suppress(OSError):
            self._report(service, event)

    def _fail(self, message: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(Unavailable(message))

    async def _spawn(self, service: Service) -> asyncio.subprocess.Process:
        path = self._log_path(service)
        environment = dict(os.environ) | {"MURPHEY_SUPERVISED": "1", "PYTHONUNBUFFERED": "1"}
        threads.limit(environment)
        with path.open("ab") as log_file:
            process = await asyncio.create_subprocess_exec(
                *service.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone, which stops them in order
            )
        self._processes[service.name] = process
        return process

    async def _bound_logs(self) -> None:
        while True:
            for path in self._logs.glob("*.log"):
                with contextlib.suppress(OSError):  # such as a full disk, of which the services tell themselves
                    await asyncio.to_thread(bound_log, path)
            await asyncio.sleep(LOOK_AT_LOGS_S)

    def _log_path(self, service: Service) -> Path:
        return self._logs / f"{service.name}.log"


@asynccontextmanager
async def supervised(
    waves: list[list[Service]], data: Path, addresses: discovery.MeshAddresses, report: Report
) -> AsyncIterator[Supervisor]:
    """A running mesh while inside: all healthy on entering, all stopped on leaving.

    FailedPrecondition when another mesh runs on the data folder or the folder cannot be used, InvalidInput when a port is
    taken, Unavailable when a service does not come up.
    """
    try:
        (data / "logs").mkdir(parents=True, exist_ok=True)
        (data / "lock").touch()
    except OSError as error:
        raise FailedPrecondition(
            f"The data folder {data} cannot be used: {error.strerror}. Choose another one by --data."
        ) from error
    with _locked(data):
        for service in (service for wave in waves for service in wave):
            _check_ports_are_free(service)
        supervisor = Supervisor(data, report, addresses.certificates())
        try:
            for wave in waves:
                await supervisor.start(wave)
            discovery.publish(addresses, data)
            yield supervisor
        finally:
            discovery.withdraw(data)
            await supervisor.stop()


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """The lock ends with the process, so that a crash leaves nothing to clean up."""
    with (data / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = (data / "lock").read_text().strip() or "unknown"
            raise FailedPrecondition(
                f"A mesh already runs on {data} (process {owner}). Use it, stop it, or choose another folder by --data "
                "and other ports by --port-base."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _check_ports_are_free(service: Service) -> None:
    for host, port in service.opens:
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InvalidInput(
                    f"The {service.name} cannot listen on {host}: {error.strerror}.", field="host"
                ) from error
            message = (
                f"Port {port} for the {service.name} is taken. Choose other ports by --port-base, or, where a mesh has just "
                "ended, wait until its services have."
            )
            raise InvalidInput(message, field="port_base") from error


def backoff_after(exits: int) -> float:
    """Seconds until the next start after so many ends in a row; twice as long each time is, after hours, beyond a float."""
    return min(0.25 * 2 ** min(exits - 1, 16), MAX_BACKOFF_S)


async def _terminate(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), KILL_AFTER_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def bound_log(path: Path) -> None:
    """Keeps a full log aside and empties it, for who writes at its end. What comes between the two is lost."""
    if path.stat().st_size > MAX_LOG_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _last_lines(path: Path, count: int = 15) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"  {line[:400]}" for line in lines[-count:]) or f"  (empty: {path})"
