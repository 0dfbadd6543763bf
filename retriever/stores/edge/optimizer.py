"""The process of low priority that optimizes a copy of a shard: `python -m retriever.stores.edge.optimizer FOLDER`."""

import ctypes
import os
import signal
import sys

import qdrant_edge as q

NICENESS = 19


def main() -> None:
    """Until nothing is left to build."""
    os.nice(NICENESS)
    if sys.platform == "linux":  # searches and health checks then need not wait for the end of its turn
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
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
