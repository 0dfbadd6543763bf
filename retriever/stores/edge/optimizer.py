"""Builds search indexes without stopping anyone: on a copy of the shard, in a process of low priority.

`EdgeShard.optimize()` holds the GIL for as long as it takes, a quarter of a minute for 40,000 points. A rebuild therefore
copies the shard (updates wait for that, searches do not), optimizes the copy in a child process, then applies the
operations that came meanwhile to the copy. Only then may the copy take the shard's place. Until it does, the shard is
untouched and complete, so that a crash at any point costs nothing but the work.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import qdrant_edge as q

from mesh import logs
from retriever.stores.edge.shard import Shard

log = logs.get(__name__)

NICENESS = 19


class Phase(Enum):
    """Where a rebuild stands."""

    COPYING = "copying"
    OPTIMIZING = "optimizing"
    REPLAYING = "replaying"
    DONE = "done"
    FAILED = "failed"


class Rebuild:
    """One rebuild of one shard. All methods are called by the thread that owns the shard; `wake` is not."""

    def __init__(self, source: Path, target: Path, wake: Callable[[], None]) -> None:
        self._source, self._target, self._wake = source, target, wake
        self._journal: deque[q.UpdateOperation] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._result: Phase | None = None
        self.shard: Shard | None = None
        self.never_indexed = 0
        """Points that the optimizer leaves to be searched one by one: segments too small to be worth an index."""
        self.phase = Phase.COPYING
        self._in_background(self._copy)

    @property
    def target(self) -> Path:
        """The copy's folder."""
        return self._target

    def record(self, operation: q.UpdateOperation) -> None:
        """An operation that the shard has had since it was copied."""
        self._journal.append(operation)

    def step(self) -> bool:
        """Goes on as far as it can without waiting; True when there was something to do."""
        match self.phase:
            case Phase.COPYING if self._result:
                self.phase = self._result
                if self.phase is Phase.OPTIMIZING:
                    self._result = None
                    self._in_background(self._optimize)
                return True
            case Phase.OPTIMIZING if self._result:
                self.phase = self._result
                if self.phase is Phase.REPLAYING:
                    self.shard = Shard.load(self._target)
                    self.never_indexed = self.shard.sizes()[1]
                return True
            case Phase.REPLAYING:
                self._replay()
                return True
        return False

    def abandon(self) -> None:
        """Stops the work and removes the copy."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        if self.shard is not None:
            self.shard.close()
        shutil.rmtree(self._target, ignore_errors=True)

    def _replay(self) -> None:
        assert self.shard is not None  # noqa: S101 - made when this phase began
        if self._journal:  # one, then searches have their turn: it may hold hundreds of chunks
            self.shard.apply(self._journal.popleft())
        if not self._journal:
            self.shard.flush()
            self.phase = Phase.DONE

    def _in_background(self, work: Callable[[], Phase]) -> None:
        def run() -> None:
            try:
                self._result = work()
            except OSError as error:
                log.error("rebuild_failed", shard=str(self._source), error=str(error))
                self._result = Phase.FAILED
            self._wake()

        threading.Thread(target=run, daemon=True, name="rebuild").start()

    def _copy(self) -> Phase:
        shutil.copytree(self._source, self._target)
        return Phase.OPTIMIZING

    def _optimize(self) -> Phase:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "retriever.stores.edge.optimizer", str(self._target)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        code = self._process.wait()
        if code != 0:
            log.error("rebuild_failed", shard=str(self._source), exit_code=code)
            return Phase.FAILED
        return Phase.REPLAYING


def main() -> None:
    """The child process: optimizes the shard in the folder that the first argument names."""
    os.nice(NICENESS)
    _die_with_parent()
    shard = q.EdgeShard.load(sys.argv[1])
    while shard.optimize():
        pass
    shard.flush()
    shard.close()


def _die_with_parent() -> None:
    """On Linux. Elsewhere an orphan finishes a copy that the next start removes."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


if __name__ == "__main__":
    main()
