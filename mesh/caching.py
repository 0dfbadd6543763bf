"""Caches of bytes, bounded in bytes, whose hits are metrics.

What is kept, under which key and while it is true belongs to the rooms. A key is a digest of all that the value depends on, so
that what is no longer true is never found again; `drop` also frees its memory. Used from one event loop.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cachetools import LRUCache

from mesh import metrics

MEGABYTE = 1_000_000
ENTRY_BYTES = 600
"""What an entry takes beside its value and tags, as measured with 100,000 of them (tests/mesh/test_caching.py)."""
_STRING_BYTES = 64

_LOOKUPS = metrics.counter("cache_lookups", "Lookups in caches, by result.", ("cache", "result"))
_BYTES = metrics.gauge("cache_bytes", "Memory of what a cache keeps.", ("cache",))
_ENTRIES = metrics.gauge("cache_entries", "How much a cache keeps.", ("cache",))

Tags = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """How a call lets caches take part: whether it takes what was kept, at most how old, and whether its own may be kept."""

    read: bool = True
    write: bool = True
    max_age_s: float | None = None
    sampled: bool = False
    """Only for answers: whether those count that were drawn by chance."""


DEFAULT_USE = Use()


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    tags: Tags
    kept_at_s: float

    @property
    def size(self) -> int:
        return len(self.value) + ENTRY_BYTES + sum(len(tag) + _STRING_BYTES for tag in self.tags)


def digest(*parts: object) -> bytes:
    """A key of everything that these values show of themselves (`repr`)."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


class ByteCache:
    """Keeps what was used last, up to `max_bytes`; nothing when that is 0. `name` is its label in the metrics."""

    def __init__(self, name: str, max_bytes: int) -> None:
        self._entries: LRUCache[bytes, _Entry] = LRUCache(max_bytes, getsizeof=lambda entry: entry.size)
        self._found, self._missed = _LOOKUPS.labels(name, "hit"), _LOOKUPS.labels(name, "miss")
        self._skipped = _LOOKUPS.labels(name, "skipped")
        self._bytes, self._count = _BYTES.labels(name), _ENTRIES.labels(name)

    @property
    def enabled(self) -> bool:
        """Whether it may keep anything."""
        return self._entries.maxsize > 0

    @property
    def size_bytes(self) -> int:
        """Memory of what is kept, never more than `max_bytes`."""
        return int(self._entries.currsize)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, use: Use = DEFAULT_USE) -> bytes | None:
        """What is kept under the key, unless the call does not want it or it is too old for it."""
        if not self.enabled:
            return None
        if not use.read:
            self._skipped.inc()
            return None
        entry = self._entries.get(key)
        if entry is None or _is_older(entry, use.max_age_s):
            self._missed.inc()
            return None
        self._found.inc()
        return entry.value

    def put(self, key: bytes, value: bytes, tags: Tags = ()) -> None:
        """Keeps it, and forgets what was not used for longest where there is no room. What is larger than all is not kept."""
        entry = _Entry(value, tags, time.monotonic())
        if entry.size <= self._entries.maxsize:
            self._entries[key] = entry
            self._show()

    def drop(self, is_stale: Callable[[Tags], bool]) -> int:
        """Forgets the entries whose tags are stale; returns how many."""
        stale = [key for key, entry in self._entries.items() if is_stale(entry.tags)]
        for key in stale:
            del self._entries[key]
        self._show()
        return len(stale)

    def tags(self) -> Iterator[Tags]:
        """The tags of all that is kept."""
        return (entry.tags for entry in self._entries.values())

    def _show(self) -> None:
        self._bytes.set(self.size_bytes)
        self._count.set(len(self))


def _is_older(entry: _Entry, max_age_s: float | None) -> bool:
    return max_age_s is not None and time.monotonic() - entry.kept_at_s > max_age_s
