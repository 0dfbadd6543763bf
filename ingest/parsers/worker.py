"""The child process that parses and cuts: `python -m ingest.parsers.worker`. It holds no state, so that it may die.

Requests and answers are JSON objects, each after its length in four bytes, over standard input and output. Native
libraries print to standard output and error too, so the real output is kept aside and both lead to nowhere.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ingest.chunking import Chunker, ChunkSize
from ingest.documents import Failure
from ingest.parsers.memory import MemoryLimit
from ingest.parsers.ocr import Recognizer
from ingest.parsers.outlines import has_tables, outline_of
from ingest.parsers.parsing import parse_file
from ingest.parsers.reading import MoreTime, ReadLimits
from ingest.parsers.rows import ROW, Context, Rows, write_rows
from ingest.parsers.speech import Transcriber
from ingest.places import Place
from ingest.texts import TextIndex, read_blocks
from ingest.tokens import TokenCounter
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, Unavailable
from mesh.weights import resolve


def main() -> None:
    """Answers requests until standard input ends."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _die_with_parent()
    worker = Worker(json.loads(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    worker.memory.apply()
    write_message(answers, {"ready": True})
    while (request := read_message(requests)) is not None:
        write_message(answers, {**worker.answer(request), "spent": worker.is_spent})


class Worker:
    """What the process can do. Kreuzberg and the tokenizer are loaded once."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.memory = MemoryLimit(options["memory_mib"])
        self._limits = ReadLimits(**options["limits"])
        self._recognizer = Recognizer(options["ocr_languages"])
        self._models = Path(options["models"])
        self._transcriber = Transcriber(
            options["speech_model"], self._models, options["max_recording_s"], self.memory.lifted
        )
        self._counters = {"": TokenCounter.from_model(resolve(options["tokenizer"], self._models))}
        self._counters[options["tokenizer"]] = self._counters[""]

    @property
    def is_spent(self) -> bool:
        """Whether another process should take its place."""
        return self._transcriber.heard

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The result of a task, or why there is none."""
        try:
            return self._parse(request) if request["task"] == "parse" else self._chunk(request)
        except MoreTime as wish:
            return {"more_time_s": wish.time_s}
        except MurpheyError as error:
            failure = Failure.of(error)
        except MemoryError:
            failure = Failure.of(
                InvalidInput(f"It takes more than {self.memory.mebibytes} MiB of memory to read this file.")
            )
        except OSError as error:
            failure = Failure.of(
                Unavailable(f"Its text cannot be written: {error.strerror}. Retry the job when it can.")
            )
        except RecursionError:
            failure = Failure.of(InvalidInput("The document is nested too deeply to be read."))
        return {"failure": asdict(failure)}

    def _parse(self, request: dict[str, Any]) -> dict[str, Any]:
        text, index, members = Path(request["text"]), Path(request["index"]), Path(request["members"])
        self._recognizer.has_time = self._transcriber.has_time = request["has_time"]
        path, name, engines = Path(request["path"]), request["name"], (self._recognizer, self._transcriber)
        return asdict(parse_file(path, name, text, index, members, *engines, self._limits))

    def _chunk(self, request: dict[str, Any]) -> dict[str, Any]:
        """Cuts the documents of a batch; writes their chunks to one file, and answers how many each has."""
        size = ChunkSize(**request["size"])
        count = self._counter(size.tokenizer)
        headings: dict[tuple[str, ...], int] = {}
        contexts: dict[Context, int] = {}
        parts: list[Rows] = []
        for number, document in enumerate(request["documents"]):
            media_type = document["media_type"]
            chunker = Chunker(size, count, outline=outline_of(media_type), tables=has_tables(media_type))
            parts.append(cut_document(number, document, chunker, headings, contexts))
        write_rows(Path(request["output"]), parts, [list(path) for path in headings], list(contexts))
        return {"counts": [len(part) for part in parts]}

    def _counter(self, tokenizer: str) -> TokenCounter:
        """Of the collection's embedder; where that is not on this machine, the one of the settings must do."""
        if tokenizer not in self._counters:
            try:
                model = resolve(tokenizer, self._models)
                local = isinstance(model, Path)
                self._counters[tokenizer] = TokenCounter.from_model(model) if local else self._counters[""]
            except FailedPrecondition:
                self._counters[tokenizer] = self._counters[""]
        return self._counters[tokenizer]


def cut_document(
    number: int,
    document: dict[str, Any],
    chunker: Chunker,
    headings: dict[tuple[str, ...], int],
    contexts: dict[Context, int],
) -> Rows:
    """The chunks of one text as rows; new heading paths and contexts are added to those given."""
    path = Path(document["text"])
    index = TextIndex.from_bytes(Path(document["index"]).read_bytes()) if document["index"] else None
    is_ascii = index is None or index.length == index.size_bytes
    offsets = _ByteOffsets(is_ascii)
    rows = []
    for cut in chunker.cut(offsets.passing(read_blocks(path))):
        place = index.span_place(cut.start, cut.end) if index is not None else Place()
        heading = headings.setdefault(cut.headings, len(headings))
        context = contexts.setdefault(Context(place, cut.table_header), len(contexts))
        rows.append((
            number, heading, place.page, cut.start, cut.end, offsets.at(cut.start), offsets.at(cut.end), context, cut.table,
        ))  # fmt: skip
    return np.array(rows, ROW)


class _ByteOffsets:
    """Bytes at which characters stand, asked for in nearly rising order while blocks of text pass by."""

    def __init__(self, is_ascii: bool) -> None:
        self._is_ascii = is_ascii
        self._block = ""
        self._character = self._byte = 0

    def passing(self, blocks: Any) -> Any:
        """The blocks, each remembered while it is worked on."""
        for block in blocks:
            self._block = block
            yield block
            self._character += len(block)
            self._byte += len(block) if self._is_ascii else len(block.encode())
            self._block = ""

    def at(self, character: int) -> int:
        """The byte of a character of the block that is worked on."""
        if self._is_ascii:
            return character
        return self._byte + len(self._block[: character - self._character].encode())


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next message; None at the end."""
    size = stream.read(4)
    if len(size) < 4:
        return None
    return json.loads(stream.read(struct.unpack("<I", size)[0]))


def write_message(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Sends a message whole."""
    data = json.dumps(message).encode()
    stream.write(struct.pack("<I", len(data)) + data)
    stream.flush()


def _die_with_parent() -> None:
    """Linux ends this process when the service is gone, however it died; elsewhere the end of input does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    main()
