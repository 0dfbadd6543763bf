"""The supervisor with real processes: order, restart, lock, ports, and nothing left behind."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from mesh import discovery
from mesh.cli import build
from mesh.discovery import MeshAddresses
from mesh.errors import FailedPrecondition, InvalidInput, Unavailable
from mesh.health import is_healthy
from mesh.supervisor import BAD_SETTINGS, Service, Supervisor, backoff_after, bound_log, supervised
from mesh.up import check_mesh, gateway_binary

SLEEPER = Path(__file__).with_name("sleeper.py")
ADDRESSES = MeshAddresses(os.getpid(), "http://127.0.0.1:1", {"retriever": "127.0.0.1:2"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sleeper(name: str, port: int | None = None) -> Service:
    port = port or free_port()
    return Service(name, (sys.executable, str(SLEEPER), str(port)), f"127.0.0.1:{port}", opens=(("127.0.0.1", port),))


class Events:
    """What the supervisor reports, awaitable."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.nobody_listens = False
        self._changed = asyncio.Event()

    def __call__(self, service: str, event: str) -> None:
        self.seen.append((service, event))
        self._changed.set()
        if self.nobody_listens:
            raise BrokenPipeError

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


def test_a_mesh_that_was_killed_is_not_found(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    discovery.publish(replace(ADDRESSES, pid=ended.pid), tmp_path)
    with pytest.raises(Unavailable, match="No mesh runs"):
        discovery.find(tmp_path)


@pytest.mark.parametrize("target", ["127.0.0.1:7400", "http://127.0.0.1:7400", "http://127.0.0.1:7400/"])
def test_a_target_may_be_what_up_shows(target: str, tmp_path: Path) -> None:
    assert discovery.address_of("retriever", tmp_path, target) == "127.0.0.1:7400"


async def test_up_does_not_start_half_of_it_in_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MURPHEY_TLS_CERTIFICATE", "cert.pem")
    monkeypatch.setenv("MURPHEY_TLS_KEY", "key.pem")
    done = await asyncio.to_thread(CliRunner().invoke, build(), ["up", "--data", str(tmp_path / "data")])
    assert done.exit_code == 1
    assert "tls_ca is not" in done.stderr
    assert not (tmp_path / "data").exists()


async def test_a_killed_service_comes_back_even_when_the_terminal_is_gone(tmp_path: Path) -> None:
    events = Events()
    service = sleeper("only")
    async with mesh([[service]], tmp_path, events):
        events.nobody_listens = True
        children()[0].send_signal(signal.SIGKILL)
        await events.until("only", "signal 9")
        events.seen.clear()
        await events.until("only", "healthy")
        assert await is_healthy(service.address)
    assert children() == []


@pytest.mark.slow
def test_a_service_that_ends_for_days_is_started_again() -> None:
    assert [backoff_after(exits) for exits in (1, 2, 3, 9, 10**6)] == [0.25, 0.5, 1, 30, 30]


async def test_a_service_that_never_starts_fails_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = Service("broken", (sys.executable, str(SLEEPER), "broken"), f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="cannot read the model"):
        async with mesh([[broken]], tmp_path, Events()):
            pass
    assert children() == []


async def test_a_service_that_is_late_is_named_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "late.log").write_text("waits for the hub\n")
    late = replace(sleeper("late"), command=(sys.executable, "-c", "import sys; sys.stdin.read()"))
    monkeypatch.setattr("mesh.supervisor.HEALTHY_WITHIN_S", 0.2)
    with pytest.raises(Unavailable, match=r"Not healthy after 0.2 s: late, whose log ends:\n  waits for the hub"):
        async with mesh([[late]], tmp_path, Events()):
            pass


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


async def test_a_taken_port_of_metrics_is_refused_too(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"Port {taken} for the only is taken"):
            async with mesh([[replace(sleeper("only"), opens=(("127.0.0.1", taken),))]], tmp_path, Events()):
                pass


async def test_a_data_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition, match="cannot be used: Not a directory"):
        async with mesh([[sleeper("only")]], tmp_path / "file", Events()):
            pass


async def test_what_cannot_be_run_fails_at_once(tmp_path: Path) -> None:
    (tmp_path / "program").touch(mode=0o644)
    service = replace(sleeper("only"), command=(str(tmp_path / "program"),))
    with pytest.raises(Unavailable, match=r"The only cannot be run: .*Permission denied"):
        async with mesh([[service]], tmp_path, Events()):
            pass


async def test_wrong_settings_are_not_tried_again(tmp_path: Path) -> None:
    events = Events()
    service = replace(sleeper("only"), command=(sys.executable, "-c", "raise SystemExit(2)"))
    with pytest.raises(Unavailable, match="exit code 2"):
        async with mesh([[service]], tmp_path, events):
            pass
    assert events.seen == []


@pytest.mark.slow
def test_a_service_says_what_is_wrong_with_its_settings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "retriever", "--store=bogus", f"--data={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == BAD_SETTINGS
    assert "store: Input should be 'edge' or 'server'" in done.stderr


async def test_a_start_that_is_interrupted_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = Events()
    never_healthy = replace(sleeper("late"), address=f"127.0.0.1:{free_port()}")

    async def start() -> None:
        async with mesh([[sleeper("first")], [never_healthy]], tmp_path, events):
            raise AssertionError("it came up")

    starting = asyncio.create_task(start())
    await events.until("first", "healthy")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert children() == []
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_a_mesh_in_which_something_unforeseen_happens_says_so(tmp_path: Path) -> None:
    def confused(_: str, __: str) -> None:
        raise ValueError("no such colour")

    ends = replace(sleeper("only"), command=(sys.executable, "-c", ""))
    with pytest.raises(Unavailable, match=r"The only cannot be watched any more: ValueError\('no such colour'\)"):
        async with supervised([[ends]], tmp_path, ADDRESSES, confused):
            pass


def test_a_full_log_is_kept_aside_while_its_service_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.supervisor.MAX_LOG_BYTES", 10)
    path = tmp_path / "retriever.log"
    with path.open("ab", buffering=0) as service:
        for line in (b"much was done\n", b"more was done\n", b"a little\n"):
            service.write(line)
            bound_log(path)
    assert path.read_text() == "a little\n"
    assert (tmp_path / "retriever.log.1").read_text() == "more was done\n"


def test_only_a_program_is_taken_for_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gateway"
    program.touch(mode=0o644)
    monkeypatch.setenv("MURPHEY_GATEWAY_BINARY", str(program))
    assert gateway_binary() is None
    program.chmod(0o755)
    assert gateway_binary() == program


def test_a_service_ends_when_its_supervisor_is_gone() -> None:
    environment = dict(os.environ) | {"MURPHEY_SUPERVISED": "1"}
    command = [sys.executable, str(SLEEPER), str(free_port())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=20) == 0


async def test_doctor_tells_a_sick_service_from_none_and_says_where_to_look(tmp_path: Path) -> None:
    async def checked() -> dict[str, tuple[bool, str]]:
        return {name: (ok, detail) for name, ok, detail in await check_mesh(tmp_path, None)}

    assert (await checked())["mesh"][0]
    discovery.publish(ADDRESSES, tmp_path)
    ok, detail = (await checked())["retriever"]
    assert not ok
    assert str(tmp_path / "logs" / "retriever.log") in detail
    (tmp_path / "mesh.json").write_text("{")
    assert (await checked())["mesh"] == (False, f"{tmp_path}/mesh.json is damaged; stop the mesh and start it again.")
