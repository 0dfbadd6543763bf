"""How urgent a call is, carried from a call to the calls it makes: someone waits for it, or nobody does.

A caller says so in the metadata `x-murphey-priority` (over HTTP the header of that name): `interactive`, which is the default,
or `batch`. Batch work takes the places that are left and is refused first.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from enum import Enum

from mesh.errors import InvalidInput

HEADER = "x-murphey-priority"


class Priority(Enum):
    """Its value is what callers write."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


priority: ContextVar[Priority] = ContextVar("priority", default=Priority.INTERACTIVE)
"""The current call's."""


def read(metadata: Iterable[tuple[str, str | bytes]]) -> Priority:
    """What a call's metadata says. InvalidInput for a word that is none of the two."""
    said = next((value for key, value in metadata if key == HEADER), Priority.INTERACTIVE.value)
    try:
        return Priority(said)
    except ValueError as error:
        known = " or ".join(one.value for one in Priority)
        raise InvalidInput(f"{HEADER} is {str(said)[:50]!r}; it must be {known}.", field=HEADER) from error


def passed_on() -> list[tuple[str, str]]:
    """Metadata for the calls that this call makes; none where it is the default."""
    current = priority.get()
    return [] if current is Priority.INTERACTIVE else [(HEADER, current.value)]
