"""`murphey status`: every service of the mesh on this machine at a glance. Exit 1 when one is down, or no mesh runs."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mesh import terminal
from mesh.status.gathering import MeshStatus, ServiceStatus, look, status

INTERVAL_S = 1.0
_CLEAR = "\x1b[H\x1b[2J"


def register(root: typer.Typer) -> None:
    """Adds the command."""
    root.command(name="status")(show_status)


def show_status(
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds over which rates are taken, and between two with --watch.")
    ] = INTERVAL_S,
    as_json: terminal.JsonOption = False,
) -> None:
    """Show each service's health, calls, errors and latency, and the mesh's queues, tokens, caches and jobs."""
    terminal.run(_show(data, watch, interval, as_json))


async def _show(data: Path, watch: bool, interval_s: float, as_json: bool) -> None:
    before = await look(data)
    while True:
        await asyncio.sleep(interval_s)
        now = await look(data)
        found = status(now, before)
        if as_json:
            terminal.print_json({**asdict(found), "healthy": not found.down})
        else:
            _print(found, clear=watch)
        if not watch:
            break
        before = now
    if found.down:
        names = " and ".join(service.name for service in found.down)
        logs = ", ".join(f"{data}/logs/{service.name}.log" for service in found.down)
        terminal.fail(f"Not healthy: {names}. What happened stands in {logs}.")


def _print(found: MeshStatus, *, clear: bool) -> None:
    if clear and terminal.out.is_terminal:
        terminal.out.file.write(_CLEAR)
    headers = ("service", "health", "version", "up", "memory", "calls", "calls/s", "faults", "running", "p50", "p95")
    terminal.print_table(headers, [_row(service) for service in found.services])
    terminal.out.print()
    terminal.print_table(("mesh", ""), [(name, text) for name, text in _lines(found) if text])


def _row(service: ServiceStatus) -> tuple[str, ...]:
    return (
        service.name,
        "ok" if service.healthy else "DOWN",
        service.version or "–",
        "–" if service.uptime_s is None else duration(service.uptime_s),
        "–" if service.memory_bytes is None else f"{service.memory_bytes / 1e6:,.0f} MB",
        _count(service.calls),
        "–" if service.calls_per_s is None else f"{service.calls_per_s:.1f}",
        _count(service.faults),
        _count(service.running),
        _milliseconds(service.p50_s),
        _milliseconds(service.p95_s),
    )


def _lines(found: MeshStatus) -> list[tuple[str, str]]:
    tokens = [f"{rate:.1f} {kind}" for kind, rate in found.tokens_per_s.items()]
    first = [_milliseconds(found.first_token_p50_s), _milliseconds(found.first_token_p95_s)]
    return [
        ("waiting", ", ".join(f"{count:,} {name}" for name, count in found.queues.items())),
        ("tokens/s", ", ".join(tokens)),
        ("first token", f"{first[0]} p50, {first[1]} p95" if found.first_token_p50_s is not None else ""),
        ("cache hits", ", ".join(f"{rate:.0%} {cache}" for cache, rate in found.cache_hit_rates.items())),
        ("ingest jobs", ", ".join(f"{count:,} {state}" for state, count in found.jobs.items())),
    ]


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"


def duration(seconds: float) -> str:
    """`41 s`, `12 min`, `3 h 05 min`, `9 d 4 h`."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
