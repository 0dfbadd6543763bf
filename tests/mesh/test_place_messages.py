"""Places as people read them beside a passage or a citation."""

import pytest

from mesh.place_messages import describe, place_message, to_place
from mesh.places import NOWHERE, Place
from murphey.retriever.v1 import retriever_pb2 as pb


@pytest.mark.parametrize(
    ("page", "place", "says"),
    [
        (0, NOWHERE, ""),
        (3, NOWHERE, ", page 3"),
        (2, Place(slide=2), ", slide 2"),
        (0, Place(sheet="Sales"), ", sheet Sales"),
        (0, Place(member="a/b.csv", table=1), ", a/b.csv, table 1"),
        (0, Place(message=7), ", message 7"),
        (0, Place(start_s=0.0, end_s=12.9), ", 0:00:00 to 0:00:12"),
        (0, Place(start_s=3725.5, end_s=3730), ", 1:02:05 to 1:02:10"),
    ],
)
def test_a_place_is_named_in_the_words_of_its_format(page: int, place: Place, says: str) -> None:
    message = place_message(place)

    assert describe(page, message or pb.Place()) == says
    assert to_place(message or pb.Place()) == place
