"""Filters as people write them on a command line, as the contract's conditions: `year>=2020`, `lang=de`, `draft!=true`.

Text, numbers, `true`, `false` and dates are told apart by their form; `"2020"` in quotes is text.
"""

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn

import typer
from google.protobuf.struct_pb2 import ListValue, Value
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.errors import InvalidInput
from murphey.retriever.v1 import filter_pb2 as pb

FIXED = ("document", "display_name", "page")
METADATA = "metadata."
HELP = (
    'Only what this holds for, such as year>=2020, lang=de, lang!=de, tag=["a","b"] (one of them), created<2024-05-01, '
    "or author (has one) and !author (has none). May be repeated: all must hold."
)
_TEST = re.compile(r"\s*([^\s<>=!\"]+)\s*(>=|<=|!=|>|<|==?)\s*(.*?)\s*", re.DOTALL)
_PRESENT = re.compile(r"\s*(!?)\s*([^\s<>=!\"]+)\s*")
_BOUNDS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_DAY, _MICROSECOND = timedelta(days=1), timedelta(microseconds=1)


def _checked(expressions: list[str] | None) -> list[str] | None:
    try:
        read_filter(expressions)
    except InvalidInput as error:
        raise typer.BadParameter(error.message) from error
    return expressions


FilterOption = Annotated[list[str] | None, typer.Option("--filter", help=HELP, callback=_checked)]


def read_filter(expressions: Sequence[str] | None) -> pb.Filter:
    """A filter that wants all of the expressions. InvalidInput for one that is none."""
    wanted = pb.Filter()
    for expression in expressions or ():
        test, negated = _read(expression)
        (wanted.must_not if negated else wanted.must).append(pb.Condition(field=test))
    return wanted


def _read(expression: str) -> tuple[pb.FieldCondition, bool]:
    if found := _TEST.fullmatch(expression):
        name, operator, text = found.groups()
        return _test(_field(name), operator, text, expression), operator == "!="
    if found := _PRESENT.fullmatch(expression):
        return pb.FieldCondition(field=_field(found[2]), exists=not found[1]), False
    raise InvalidInput(f"--filter {expression!r} is not a condition such as year>=2020, lang=de or !author.")


def _field(name: str) -> str:
    return name if name in FIXED or name.startswith(METADATA) else METADATA + name


def _test(field: str, operator: str, text: str, expression: str) -> pb.FieldCondition:
    if time := _time(text):
        try:
            return pb.FieldCondition(field=field, time_range=_time_range(operator, *time))
        except (ValueError, OverflowError):
            raise InvalidInput(
                f"--filter {expression!r} compares with {text!r}, beyond the years that there are."
            ) from None
    value = _value(text)
    if operator in _BOUNDS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(f"--filter {expression!r} compares with {text!r}, which is neither a number nor a date.")
        return pb.FieldCondition(field=field, range=_range(**{_BOUNDS[operator]: float(value)}))
    if isinstance(value, list):
        values = ListValue()
        values.extend(value)
        return pb.FieldCondition(field=field, any_of=values)
    if isinstance(value, float) and not value.is_integer():
        return pb.FieldCondition(field=field, range=_range(gte=value, lte=value))
    return pb.FieldCondition(field=field, match=_scalar(value))


def _range(**bounds: float) -> pb.NumberRange:
    return pb.NumberRange(**bounds)


def _scalar(value: str | bool | float) -> Value:
    if isinstance(value, bool):
        return Value(bool_value=value)
    return Value(string_value=value) if isinstance(value, str) else Value(number_value=value)


def _value(text: str) -> Any:
    """JSON where it is a scalar or a list of them, else the text itself; numbers that no message holds, and NaN, are text."""
    try:
        value = json.loads(text, parse_constant=_no_number)
        if isinstance(value, int | float) and not math.isfinite(value):
            return text
    except (ValueError, OverflowError, RecursionError):
        return text
    return text if value is None or isinstance(value, dict) else value


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _time(text: str) -> tuple[datetime, timedelta] | None:
    """When it begins and how long it lasts: a day, or a moment."""
    if not re.match(r"\d{4}-\d\d-\d\d", text):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC), _DAY if len(text) == 10 else _MICROSECOND


def _time_range(operator: str, begin: datetime, length: timedelta) -> pb.TimeRange:
    """The contract's ranges hold their first moment and not their last."""
    bounds = {
        ">": (begin + length, None),
        ">=": (begin, None),
        "<": (None, begin),
        "<=": (None, begin + length),
    }.get(operator, (begin, begin + length))
    found = pb.TimeRange()
    for name, time in zip(("from", "before"), bounds, strict=True):
        if time is not None:
            stamp = Timestamp()
            stamp.FromDatetime(time)
            getattr(found, name).CopyFrom(stamp)
    return found
