"""`murphey ingest --watch`, and what Ctrl-C asks, as processes."""

import asyncio
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.discovery import MeshAddresses, publish, withdraw
from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service, running_service

pytestmark = pytest.mark.slow

PROGRAM = "import typer; from ingest import cli; root = typer.Typer(); cli.register(root); root()"
PATIENCE_S = 120


@asynccontextmanager
async def murphey(*arguments: str, **streams: Any) -> AsyncIterator[Process]:
    """A command while it runs; ended on leaving."""
    environment = {**os.environ, "COLUMNS": "300", "TERM": "xterm"}
    environment.pop("MURPHEY_TARGET", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, env=environment, **streams
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def next_lines(process: Process, count: int) -> dict[str, str]:
    """The status of the next documents."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    while len(found) < count:
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S))
        found[line["document"]] = line["status"]
    return found


@asynccontextmanager
async def mesh(data: Path, tokenizer: Path) -> AsyncIterator[Service]:
    """A service that commands find in a data folder, at another port each time."""
    async with running_service(data, tokenizer) as service:
        publish(MeshAddresses(os.getpid(), "", {"ingest": service.address}), data)
        try:
            yield service
        finally:
            withdraw(data)


async def test_a_watched_folder_is_followed_over_a_restart_of_the_mesh(tmp_path: Path, tokenizer_folder: Path) -> None:
    docs, data = tmp_path / "docs", tmp_path / "data"
    docs.mkdir()
    data.mkdir()
    (docs / "a.txt").write_text("Words.")
    (docs / "b.txt").write_text("Other words.")
    (docs / "bad.pdf").write_text("%PDF-1.4 bad")
    arguments = ("ingest", str(docs), "--sync", "--watch", "--json", "--data", str(data))
    async with murphey(*arguments, stdout=asyncio.subprocess.PIPE) as process:
        async with mesh(data, tokenizer_folder):
            assert await next_lines(process, 3) == {"a.txt": "indexed", "b.txt": "indexed", "bad.pdf": "failed"}
            (docs / "a.txt").write_text("Words, changed.")
            assert await next_lines(process, 1) == {"a.txt": "replaced"}
            (docs / "b.txt").unlink()
            (docs / "c.txt").write_text("New words.")
            assert await next_lines(process, 2) == {"b.txt": "removed", "c.txt": "indexed"}
        (docs / "d.txt").write_text("Words that wait.")
        async with mesh(data, tokenizer_folder):
            assert await next_lines(process, 2) == {"d.txt": "indexed", "bad.pdf": "failed"}


async def test_ctrl_c_asks_whether_to_leave_the_jobs_running(tmp_path: Path, tokenizer_folder: Path) -> None:
    (tmp_path / "a.txt").write_text("Words that take their time.")
    ours, theirs = pty.openpty()
    async with mesh(tmp_path / "data", tokenizer_folder) as service:
        service.retriever.gate.clear()
        arguments = ("ingest", str(tmp_path / "a.txt"), "--data", str(tmp_path / "data"))
        async with murphey(*arguments, stdin=theirs, stderr=theirs, stdout=asyncio.subprocess.PIPE) as process:
            await asyncio.wait_for(service.retriever.upserting.wait(), PATIENCE_S)
            await until_shown(ours, b"1/1")
            process.send_signal(signal.SIGINT)
            await until_shown(ours, b"Leave them to the service?")
            os.write(ours, b"n\n")
            assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 130
        jobs = (await service.stub.ListJobs(pb.ListJobsRequest(), timeout=10)).jobs
        service.retriever.gate.set()
    os.close(ours)
    os.close(theirs)
    assert [job.state for job in jobs] == [pb.JOB_STATE_CANCELLED]


async def until_shown(terminal: int, text: bytes) -> None:
    """Reads what a terminal shows until this appears."""
    shown, readable, loop = b"", asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(terminal, readable.set)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while text not in shown:
                await readable.wait()
                shown += os.read(terminal, 4096)
                readable.clear()
    finally:
        loop.remove_reader(terminal)
