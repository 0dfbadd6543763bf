"""Filters as people write them, and their check against the fields that a collection has.

A collection's fields are found as chunks are stored: `metadata.KEY` with the kinds of value seen. Every kind has an index
of its own in the store, so a key may be a number in one document and text in another.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from mesh.errors import InvalidInput
from retriever.chunks import MetadataValue

MAX_DEPTH = 8
MAX_CONDITIONS = 256
MAX_FIELDS = 512
METADATA = "metadata."
FIXED_FIELDS = ("display_name", "document", "page")


class Kind(Enum):
    """Kinds of value; each is stored and indexed apart."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Equals:
    """The field, or one of its several values, equals one of these."""

    field: str
    values: tuple[str | float | bool, ...]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """A number within bounds."""

    field: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A time, RFC 3339: start <= time < before."""

    field: str
    start: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """Has a value, or has none."""

    field: str
    exists: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """All of `must`, one of `should` where there are any, none of `must_not`."""

    must: "tuple[Condition, ...]" = ()
    should: "tuple[Condition, ...]" = ()
    must_not: "tuple[Condition, ...]" = ()


NO_FILTER = Filter()
"""Selects everything."""

FieldTest = Equals | NumberRange | TimeRange | Exists
Condition = FieldTest | Filter


@dataclass(frozen=True, slots=True)
class Fields:
    """Metadata keys of a collection, with the kinds of their values."""

    kinds: Mapping[str, frozenset[Kind]] = field(default_factory=dict)

    def names(self) -> list[str]:
        """All that can be filtered, sorted."""
        return sorted([*FIXED_FIELDS, *(METADATA + key for key in self.kinds)])

    def adding(self, metadata: Mapping[str, MetadataValue]) -> "Fields":
        """With the keys and kinds of a chunk; itself when it knows them all."""
        new = {key: kinds for key, value in metadata.items() if (kinds := kinds_of(value)) - self.kinds.get(key, _NONE)}
        if not new:
            return self
        return Fields({**self.kinds, **{key: self.kinds.get(key, _NONE) | kinds for key, kinds in new.items()}})

    def minus(self, other: "Fields") -> list[tuple[str, Kind]]:
        """Keys with kinds that `other` lacks."""
        return [(key, kind) for key, kinds in self.kinds.items() for kind in kinds - other.kinds.get(key, _NONE)]


_NONE: frozenset[Kind] = frozenset()


def kinds_of(value: MetadataValue) -> frozenset[Kind]:
    """How a value can be asked for; a text that is a time can be asked for as both."""
    if isinstance(value, bool):
        return frozenset({Kind.FLAG})
    items = value if isinstance(value, tuple) else (value,)
    if items and all(isinstance(item, int | float) for item in items):
        return frozenset({Kind.NUMBER})
    if items and all(isinstance(item, str) and is_time(item) for item in items):
        return frozenset({Kind.TEXT, Kind.TIME})
    return frozenset({Kind.TEXT})


def is_time(text: str) -> bool:
    """Whether it is an RFC 3339 time with an offset."""
    if not 20 <= len(text) <= 35 or text[10] not in "Tt ":
        return False
    try:
        return datetime.fromisoformat(text.replace("z", "Z")).tzinfo is not None
    except ValueError:
        return False


def check(condition: Filter, fields: Fields) -> None:
    """InvalidInput for an unknown field, an impossible test, or a filter that is too deep or too long."""
    tests = list(_tests(condition, 1))
    if len(tests) > MAX_CONDITIONS:
        raise InvalidInput(f"The filter has {len(tests)} conditions; {MAX_CONDITIONS} is the most.", field="filter")
    for test in tests:
        _check_field(test, fields)
        if isinstance(test, NumberRange):
            _check_bounds(test)


def _tests(condition: Filter, depth: int) -> Iterator[FieldTest]:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"The filter is nested more than {MAX_DEPTH} deep.", field="filter")
    for part in (*condition.must, *condition.should, *condition.must_not):
        if isinstance(part, Filter):
            yield from _tests(part, depth + 1)
        else:
            yield part


def _check_field(test: FieldTest, fields: Fields) -> None:
    if test.field in FIXED_FIELDS:
        return
    known = test.field.startswith(METADATA) and test.field.removeprefix(METADATA) in fields.kinds
    if not known and not isinstance(test, Exists):
        names = ", ".join(fields.names())
        raise InvalidInput(f"No chunk has the field {test.field[:100]!r}. Known fields: {names}.", field="filter")


def _check_bounds(test: NumberRange) -> None:
    bounds = [bound for bound in (test.gt, test.gte, test.lt, test.lte) if bound is not None]
    if not bounds or any(math.isnan(bound) for bound in bounds):
        raise InvalidInput(
            f"The range of {test.field[:100]!r} needs at least one bound, and none is NaN.", field="filter"
        )
