"""Filters as they are written on a command line."""

import pytest
from google.protobuf.json_format import MessageToDict

from mesh.errors import InvalidInput
from mesh.filter_text import read_filter


def field(expression: str) -> dict[str, object]:
    [condition] = MessageToDict(read_filter([expression]))["must"]
    return condition["field"]


@pytest.mark.parametrize(
    ("expression", "name", "test"),
    [
        ("year>=2020", "metadata.year", {"range": {"gte": 2020.0}}),
        ("year < 2020.5", "metadata.year", {"range": {"lt": 2020.5}}),
        ("price=1.5", "metadata.price", {"range": {"gte": 1.5, "lte": 1.5}}),
        ("lang=de", "metadata.lang", {"match": "de"}),
        ("title=A = b > c", "metadata.title", {"match": "A = b > c"}),
        ("year==2020", "metadata.year", {"match": 2020.0}),
        ('year="2020"', "metadata.year", {"match": "2020"}),
        ("draft=true", "metadata.draft", {"match": True}),
        ('tag=["a", "b"]', "metadata.tag", {"anyOf": ["a", "b"]}),
        ("title=Infinity", "metadata.title", {"match": "Infinity"}),
        ("title=1e999", "metadata.title", {"match": "1e999"}),
        (f"id={'9' * 400}", "metadata.id", {"match": "9" * 400}),
        ("page>3", "page", {"range": {"gt": 3.0}}),
        ("metadata.page>3", "metadata.page", {"range": {"gt": 3.0}}),
        ("author", "metadata.author", {"exists": True}),
        ("!author", "metadata.author", {"exists": False}),
    ],
)
def test_each_form_is_a_condition(expression: str, name: str, test: dict[str, object]) -> None:
    assert field(expression) == {"field": name, **test}


@pytest.mark.parametrize(
    ("expression", "bounds"),
    [
        ("d=2024-02-29", {"from": "2024-02-29T00:00:00Z", "before": "2024-03-01T00:00:00Z"}),
        ("d>2024-02-29", {"from": "2024-03-01T00:00:00Z"}),
        ("d>=2024-02-29", {"from": "2024-02-29T00:00:00Z"}),
        ("d<2024-02-29", {"before": "2024-02-29T00:00:00Z"}),
        ("d<=2024-02-29", {"before": "2024-03-01T00:00:00Z"}),
        ("d>=2024-02-29T10:00:00+02:00", {"from": "2024-02-29T08:00:00Z"}),
        ("d>2024-02-29T10:00:00Z", {"from": "2024-02-29T10:00:00.000001Z"}),
    ],
)
def test_dates_are_whole_days_and_times_moments(expression: str, bounds: dict[str, str]) -> None:
    assert field(expression) == {"field": "metadata.d", "timeRange": bounds}


def test_unequal_is_none_of_these_and_all_must_hold() -> None:
    found = MessageToDict(read_filter(["lang!=de", "year=2020", "lang!=fr"]))
    assert [len(found["must"]), len(found["mustNot"])] == [1, 2]
    assert MessageToDict(read_filter(None)) == {}


@pytest.mark.parametrize(
    "expression", ["", ">=3", "two words", "year>=soon", "year>=NaN", "draft>true", "=x", "d<=9999-12-31"]
)
def test_what_is_no_condition_is_refused(expression: str) -> None:
    with pytest.raises(InvalidInput, match="--filter"):
        read_filter([expression])
