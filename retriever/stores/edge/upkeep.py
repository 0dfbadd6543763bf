"""When an index is flushed and rebuilt, by what was written and asked, and when. It decides; the index acts."""

import time

LOOK_EVERY_S = 0.5
"""How often an index that has changed is looked at."""
QUIET_S = 3.0
"""Without a write for so long an index is taken for filled."""
SEARCHLESS_S, SEARCHLESS_WITHIN_S = 1.0, 60.0
"""A flush holds searches up, 0.2 s after 20,000 chunks: it waits for a moment without them, but not longer than this."""
UNFLUSHED_CHUNKS = 100_000
"""Flushed at the latest after so many: the shard's log is read again, 20,000 chunks a second, after a crash."""
WRITING_FRACTION, QUIET_FRACTION = 0.3, 0.1
"""Of the chunks, searched one by one before an index is rebuilt. With 0.3 in quiet times a dense search in 100,000 took 3 ms
more."""
WRITING_FACTOR = 3
"""How much more may be searched one by one while chunks keep coming, so that a bulk ingest causes few rebuilds."""
RETRY_REBUILD_S = 60.0


class Upkeep:
    """What one index needs. `never_indexed`: points whose segment is too small to get an index."""

    def __init__(self, optimize_after_chunks: int, never_indexed: int) -> None:
        self._least, self._never_indexed = optimize_after_chunks, never_indexed
        self._deleted = 0
        self._unflushed = 1  # what a crash, or the process before, has left may be due
        self._written_at, self._searched_at, self._looked_at, self._retry_at = time.monotonic(), 0.0, 0.0, 0.0
        self.changed = True
        """Whether anything may become due."""

    def wrote(self, chunks: int) -> None:
        """So many chunks were stored, or 1 for any other change."""
        self.changed, self._written_at = True, time.monotonic()
        self._unflushed += chunks

    def deleted(self, chunks: int) -> None:
        """So many were removed."""
        self._deleted += chunks

    def searched(self) -> None:
        """A search has come."""
        self._searched_at = time.monotonic()

    def to_look(self) -> bool:
        """Whether it is time to ask what is due."""
        if not self.changed or time.monotonic() <= self._looked_at + LOOK_EVERY_S:
            return False
        self._looked_at = time.monotonic()
        return True

    def rebuild_due(self, points: int, unindexed: int) -> bool:
        """Whether searching one by one, or over deleted points, has become slow."""
        fraction = WRITING_FRACTION if self._writing else QUIET_FRACTION
        threshold = max(self._least, int(points * fraction))
        slow = max(unindexed - self._never_indexed, self._deleted)
        if slow < threshold or time.monotonic() < self._retry_at:
            return False
        return not self._writing or slow >= WRITING_FACTOR * self._least

    def rebuilding(self) -> None:
        """A rebuild has begun, which leaves the deleted behind."""
        self._deleted = 0

    def postpone(self) -> None:
        """It came to nothing: it is due again later."""
        self._retry_at = time.monotonic() + RETRY_REBUILD_S

    def flush_due(self) -> bool:
        """Whether the writing has ended, in a moment without searches; or so much was written that it cannot wait."""
        searchless = time.monotonic() - self._searched_at > SEARCHLESS_S or self._quiet_s > SEARCHLESS_WITHIN_S
        due = (not self._writing and searchless) or self._unflushed > UNFLUSHED_CHUNKS
        return bool(self._unflushed) and due

    def flushed(self) -> None:
        """All is on disk."""
        self._unflushed = 0

    def rest(self) -> None:
        """Nothing more is due, unless there is more to flush, or a rebuild to try again."""
        if not self._writing and not self._unflushed:
            self.changed = time.monotonic() < self._retry_at

    @property
    def _quiet_s(self) -> float:
        return time.monotonic() - self._written_at

    @property
    def _writing(self) -> bool:
        return self._quiet_s <= QUIET_S
