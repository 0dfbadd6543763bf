"""Builds search indexes without stopping anyone: on a copy of the shard, in a process of low priority.

`EdgeShard.optimize()` holds the GIL for as long as it takes, a quarter of a minute for 40,000 points. A rebuild therefore
copies the shard (updates wait for that, searches do not) and optimizes the copy in a child process. What comes meanwhile
is in the journal, with which a successor catches up. Until that takes over the shard is untouched and complete, so that a
crash at any point costs nothing but the work.
"""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from mesh import logs

log = logs.get(__name__)


class Phase(Enum):
    """Where a rebuild stands."""

    COPYING = "copying"
    OPTIMIZING = "optimizing"
    READY = "ready"
    FAILED = "failed"


class Rebuild:
    """One rebuild of one shard. All methods are called by the thread that owns the shard."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source, self.target = source, target
        self._process: subprocess.Popen[bytes] | None = None
        self._result: Phase | None = None
        self.phase = Phase.COPYING
        self._in_background(self._copy)

    def advance(self) -> bool:
        """True when a phase has ended; never waits."""
        if self._result is None:
            return False
        self.phase, self._result = self._result, None
        if self.phase is Phase.OPTIMIZING:
            self._in_background(self._optimize)
        return True

    def abandon(self) -> None:
        """Stops the work and removes the copy."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(self.target, ignore_errors=True)

    def _in_background(self, work: Callable[[], Phase]) -> None:
        def run() -> None:
            try:
                self._result = work()
            except OSError as error:
                log.error("rebuild_failed", shard=str(self._source), error=str(error))
                self._result = Phase.FAILED

        threading.Thread(target=run, daemon=True, name="rebuild").start()

    def _copy(self) -> Phase:
        shutil.copytree(self._source, self.target)
        return Phase.OPTIMIZING

    def _optimize(self) -> Phase:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "retriever.stores.edge.optimizer", str(self.target)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        code = self._process.wait()
        if code != 0:
            log.error("rebuild_failed", shard=str(self._source), exit_code=code)
            return Phase.FAILED
        return Phase.READY
