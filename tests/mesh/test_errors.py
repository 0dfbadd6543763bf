"""Every domain error survives the trip through google.rpc.Status."""

import pytest
from google.rpc import code_pb2

from mesh import errors

ALL = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.MurpheyError)]


@pytest.mark.parametrize("error_type", [error for error in ALL if error is not errors.MurpheyError])
def test_round_trip_keeps_class_text_field_and_delay(error_type: type[errors.MurpheyError]) -> None:
    error = error_type("What is wrong.", field="a.b", retry_after_s=2.5)
    status = errors.to_status(error, "retriever")
    restored = errors.from_status(status)
    assert status.code == error_type.code
    assert type(restored) is error_type
    assert (restored.message, restored.field, restored.retry_after_s) == ("What is wrong.", "a.b", 2.5)


def test_codes_are_distinct() -> None:
    codes = [error.code for error in ALL if error is not errors.MurpheyError]
    assert len(set(codes)) == len(codes)
    assert code_pb2.OK not in codes


def test_overload_always_says_when_to_come_back() -> None:
    assert errors.Overloaded("Full.").retry_after_s == 1.0
