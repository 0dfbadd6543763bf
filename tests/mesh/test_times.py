"""What protobuf takes for a time and is none."""

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.errors import InvalidInput
from mesh.times import duration, microseconds


def test_times_are_read() -> None:
    assert microseconds(Timestamp(seconds=2, nanos=3_000), "since") == 2_000_003
    assert duration(Duration(seconds=90), "age") == timedelta(seconds=90)


@pytest.mark.parametrize(("seconds", "nanos"), [(0, -1), (0, 2**31 - 1), (2**63 - 1, 0), (-(2**63), 0)])
def test_what_is_no_time_is_refused_with_its_field(seconds: int, nanos: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        microseconds(Timestamp(seconds=seconds, nanos=nanos), "since")
    assert refused.value.field == "since"


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63)])
def test_what_is_no_duration_is_refused_with_its_field(seconds: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        duration(Duration(seconds=seconds), "age")
    assert refused.value.field == "age"
