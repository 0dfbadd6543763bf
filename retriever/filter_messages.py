"""Filters of the contract into the domain's conditions; what cannot be one is InvalidInput that names the field."""

from google.protobuf.struct_pb2 import Value

from mesh.errors import InvalidInput
from murphey.retriever.v1 import filter_pb2
from retriever.bounds import check_count
from retriever.filters import MAX_DEPTH, Condition, Equals, Exists, Filter, NumberRange, TimeRange


def to_filter(message: filter_pb2.Filter, depth: int = 1) -> Filter:
    """The conditions; whether the fields exist is checked where the collection is known."""
    if depth > MAX_DEPTH:
        raise InvalidInput(f"The filter is nested more than {MAX_DEPTH} deep.", field="filter")
    return Filter(
        must=tuple(_condition(part, depth) for part in message.must),
        should=tuple(_condition(part, depth) for part in message.should),
        must_not=tuple(_condition(part, depth) for part in message.must_not),
    )


def _condition(message: filter_pb2.Condition, depth: int) -> Condition:
    match message.WhichOneof("kind"):
        case "filter":
            return to_filter(message.filter, depth + 1)
        case "field":
            return _field_condition(message.field)
        case _:
            raise InvalidInput("A condition is empty: give it a field or a filter.", field="filter")


def _field_condition(message: filter_pb2.FieldCondition) -> Condition:
    match message.WhichOneof("test"):
        case "match":
            return Equals(message.field, (_match_value(message.match, message.field),))
        case "any_of":
            values = tuple(_match_value(value, message.field) for value in message.any_of.values)
            check_count("filter.any_of", len(values), 1_000)
            return Equals(message.field, values)
        case "range":
            bounds = {
                name: getattr(message.range, name)
                for name in ("gt", "gte", "lt", "lte")
                if message.range.HasField(name)
            }
            return NumberRange(message.field, **bounds)
        case "time_range":
            return _time_range(message)
        case "exists":
            return Exists(message.field, message.exists)
        case _:
            raise InvalidInput(f"The condition on {message.field[:100]!r} has no test.", field="filter")


def _time_range(message: filter_pb2.FieldCondition) -> TimeRange:
    bounds = message.time_range
    start = getattr(bounds, "from")  # a keyword in Python
    has_start, has_before = bounds.HasField("from"), bounds.HasField("before")
    if not has_start and not has_before:
        raise InvalidInput(f"The time range of {message.field[:100]!r} needs a bound.", field="filter")
    try:
        return TimeRange(
            message.field,
            start=start.ToJsonString() if has_start else None,
            before=bounds.before.ToJsonString() if has_before else None,
        )
    except ValueError as error:
        raise InvalidInput(f"The time range of {message.field[:100]!r} is out of range.", field="filter") from error


def _match_value(value: Value, field: str) -> str | float | bool:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value" if value.number_value.is_integer():
            return value.number_value
        case "bool_value":
            return value.bool_value
        case _:
            raise InvalidInput(
                f"{field[:100]!r} can equal a string, a whole number or a boolean; use a range for other numbers.",
                field="filter",
            )
