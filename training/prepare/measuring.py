"""What each step takes in, gives on and costs, measured around datatrove's steps."""

import time
from collections.abc import Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

CPU_S, DOCUMENTS_IN, DOCUMENTS_OUT, BYTES_IN, BYTES_OUT = (
    "cpu_s",
    "documents_in",
    "documents_out",
    "bytes_in",
    "bytes_out",
)


class Measured(PipelineStep):
    """A step with a name for people. Its time is the processor's, without that of the steps before it: a waiting disk or
    another process on the core does not count.
    """

    def __init__(self, name: str, step: PipelineStep) -> None:
        super().__init__()
        self.step, self.stats = step, step.stats
        self.stats.name = name

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:  # pyright: ignore
        before = _Upstream(data)
        spent_s, count, size = 0.0, 0, 0
        began = time.thread_time()
        found = self.step.run(before if data is not None else None, rank, world_size)  # pyright: ignore
        documents = iter(found) if found is not None else iter(())
        while True:
            document = next(documents, None)
            spent_s += time.thread_time() - began
            if document is None:
                break
            count, size = count + 1, size + len(document.text.encode())
            yield document
            began = time.thread_time()
        for label, value in (
            (CPU_S, spent_s - before.spent_s), (DOCUMENTS_IN, before.count), (BYTES_IN, before.size),
            (DOCUMENTS_OUT, count), (BYTES_OUT, size),
        ):  # fmt: skip
            self.stat_update(label, value=value)  # pyright: ignore[reportArgumentType]


class _Upstream:
    """The documents of the steps before, and the time that those take."""

    def __init__(self, data: Any) -> None:
        self._documents = iter(data) if data is not None else iter(())
        self.spent_s, self.count, self.size = 0.0, 0, 0

    def __iter__(self) -> "_Upstream":
        return self

    def __next__(self) -> Document:
        began = time.thread_time()
        try:
            document = next(self._documents)
            self.count, self.size = self.count + 1, self.size + len(document.text.encode())
            return document
        finally:
            self.spent_s += time.thread_time() - began
