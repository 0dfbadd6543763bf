"""What every collector is: a named source that yields records, and goes on where an earlier run ended."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from training.records import Record

Position = int | str | None
"""Where a collector goes on: how much it has read, or the name of what it read last. None is the beginning."""


@dataclass(frozen=True)
class Found:
    """A record, or in `dropped` why a thing that was looked at is none. `position` is where to go on after it; `done` is how
    far that is, in the collector's unit.
    """

    position: Position
    record: Record | None = None
    dropped: str = ""
    done: int = 0


class Collector(Protocol):
    """A source."""

    @property
    def name(self) -> str:
        """Of the kind, such as `wikipedia`."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides which records there are: a run that goes on must have the same. Holds no secret."""
        ...

    @property
    def total(self) -> int | None:
        """What `done` comes to at the end; None where nobody knows."""
        ...

    def check(self) -> int:
        """Looks at the source before long work; what is wrong is an error of mesh.errors. Returns about how many bytes its
        records will take on disk.
        """
        ...

    def find(self, after: Position) -> Iterator[Found]:
        """What there is after a position, in an order that stays the same."""
        ...
