"""The most memory that a mesh held while something went on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.local_mesh import LocalMesh

SAMPLE_EVERY_S = 0.5


@dataclass
class Peak:
    """In bytes: of all processes together, each service's share of that, and the most that each held at any time. `own` is
    the most of all together without pages of mapped files."""

    total: int = 0
    own: int = 0
    by_service: dict[str, int] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)

    def add(self, sizes: dict[str, int]) -> None:
        """A sample."""
        if sum(sizes.values()) > self.total:
            self.total, self.by_service = sum(sizes.values()), sizes
        for service, size in sizes.items():
            self.highest[service] = max(size, self.highest.get(service, 0))


@contextmanager
def peak_memory(mesh: LocalMesh) -> Iterator[Peak]:
    """What was held while inside."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_EVERY_S):
            peak.add(mesh.memory_bytes())
            peak.own = max(peak.own, sum(mesh.memory_bytes(mapped=False).values()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()
