"""The pool of worker processes: each task has a time and a memory limit, and a process that dies takes no document with it
but one that kills a second one too.

Processes are started as they are needed, replaced after a number of documents that were no plain text, and end with the
service.
"""

import asyncio
import contextlib
import json
import os
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ingest.chunking import ChunkSize
from ingest.documents import Failure
from ingest.parsers.parsing import ParsedFile
from ingest.parsers.reading import ReadLimits
from mesh import logs
from mesh.errors import InvalidInput, Unavailable
from mesh.threads import limit

log = logs.get(__name__)

START_TIMEOUT_S = 60.0
CHUNK_BYTES_PER_S = 200_000
"""Cutting runs at several megabytes a second; a task over twenty times slower than that hangs."""
ANSWER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class WorkerLimits:
    """What a worker may take. Memory is counted beyond what the process itself needs."""

    processes: int
    parse_timeout_s: float
    memory_mib: int
    documents_per_process: int
    tokenizer: str
    models: Path
    reading: ReadLimits
    ocr_languages: str = "eng"
    speech_model: str = "whisper-base"
    max_recording_s: float = 3 * 3600.0


@dataclass(frozen=True)
class TextFile:
    """A parsed text on this machine, and its index where it has one."""

    text: Path
    index: Path | None
    media_type: str


class WorkerPool:
    """Parses and cuts in child processes. Tasks beyond the number of processes wait for one."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._idle: asyncio.Queue[_Process | None] = asyncio.Queue()
        for _ in range(limits.processes):
            self._idle.put_nowait(None)
        self._all: set[_Process] = set()

    async def start(self) -> None:
        """Starts the first process, so that a missing model or library shows before the service says it is ready."""
        async with self._process():
            pass

    async def parse(self, path: Path, name: str, text: Path, index: Path, members: Path) -> ParsedFile | Failure:
        """Parses one file; a Failure says why it cannot be read. The members of an archive are put into a new folder."""
        request = {
            "task": "parse", "path": str(path), "name": name, "text": str(text), "index": str(index),
            "members": str(members), "has_time": False,
        }  # fmt: skip
        answer = await self._ask(request, self._limits.parse_timeout_s)
        if isinstance(answer, dict) and "more_time_s" in answer:
            timeout_s = self._limits.parse_timeout_s + answer["more_time_s"]
            answer = await self._ask({**request, "has_time": True}, timeout_s)
        return answer if isinstance(answer, Failure) else ParsedFile.from_json(answer)

    async def chunk(self, texts: list[TextFile], size: ChunkSize, output: Path) -> list[int] | Failure:
        """Cuts texts; the chunks of all are written to `output`. Answers how many each has."""
        documents = [
            {"text": str(text.text), "index": str(text.index or ""), "media_type": text.media_type} for text in texts
        ]
        request = {"task": "chunk", "documents": documents, "size": vars(size), "output": str(output)}
        work_bytes = sum(text.text.stat().st_size for text in texts)
        answer = await self._ask(request, self._limits.parse_timeout_s + work_bytes / CHUNK_BYTES_PER_S)
        return answer if isinstance(answer, Failure) else answer["counts"]

    async def close(self) -> None:
        """Ends all processes."""
        for process in list(self._all):
            await self._discard(process)

    async def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any] | Failure:
        answer = await self._ask_once(request, timeout_s)
        if answer is None:  # whatever killed the process need not have been the file; a second death will have been
            answer = await self._ask_once(request, timeout_s)
        if answer is None:
            return Failure.of(InvalidInput(
                f"The file makes the parser fail or need over {self._limits.memory_mib} MiB of memory; it cannot be read."
            ))  # fmt: skip
        return answer

    async def _ask_once(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any] | Failure | None:
        """None when the process died."""
        async with self._process() as process:
            try:
                answer = await asyncio.wait_for(process.ask(request), timeout_s)
            except TimeoutError:
                await self._discard(process)
                return Failure.of(InvalidInput(f"Reading the file took over {timeout_s:.0f} s and was stopped."))
            except (asyncio.IncompleteReadError, ConnectionError):
                await self._discard(process)
                log.warning("parser_died", task=request["task"], exit_status=process.exit_status)
                return None
            except asyncio.CancelledError:
                await self._discard(process)
                raise
        return Failure(**answer["failure"]) if "failure" in answer else answer

    @asynccontextmanager
    async def _process(self) -> "AsyncIterator[_Process]":
        process = await self._idle.get()
        try:
            if process is None:
                process = await self._spawn()
            yield process
        finally:
            if process is not None and (process.spent or process.extracted >= self._limits.documents_per_process):
                await self._discard(process)
            self._idle.put_nowait(process if process in self._all else None)

    async def _spawn(self) -> "_Process":
        options = {
            "memory_mib": self._limits.memory_mib, "limits": asdict(self._limits.reading),
            "ocr_languages": self._limits.ocr_languages, "tokenizer": self._limits.tokenizer,
            "models": str(self._limits.models), "speech_model": self._limits.speech_model,
            "max_recording_s": self._limits.max_recording_s,
        }  # fmt: skip
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
        limit(environment)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest.parsers.worker", json.dumps(options),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, limit=ANSWER_BYTES,
        )  # fmt: skip
        process = _Process(child)
        try:
            await asyncio.wait_for(process.receive(), START_TIMEOUT_S)
        except asyncio.CancelledError:
            await process.kill()
            raise
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            await process.kill()
            raise Unavailable("The parser process does not start; its reason stands in the log of ingest.") from error
        self._all.add(process)
        return process

    async def _discard(self, process: "_Process") -> None:
        self._all.discard(process)
        await process.kill()


class _Process:
    """A worker process as seen from here."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child
        self.extracted = 0  # documents that libraries have read, which may leak
        self.spent = False

    @property
    def exit_status(self) -> int | None:
        """As of a subprocess: negative is a signal."""
        return self._child.returncode

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and waits for its answer."""
        assert self._child.stdin is not None  # noqa: S101 - it was made with pipes
        data = json.dumps(request).encode()
        self._child.stdin.write(struct.pack("<I", len(data)) + data)
        await self._child.stdin.drain()
        answer = await self.receive()
        self.spent = answer.pop("spent")
        self.extracted += request["task"] == "parse" and not answer.get("text_is_raw", False)
        return answer

    async def receive(self) -> dict[str, Any]:
        """The next message."""
        assert self._child.stdout is not None  # noqa: S101 - it was made with pipes
        size = struct.unpack("<I", await self._child.stdout.readexactly(4))[0]
        return json.loads(await self._child.stdout.readexactly(size))

    async def kill(self) -> None:
        """Ends the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        await self._child.wait()
        if self._child.stdin is not None:
            self._child.stdin.close()
