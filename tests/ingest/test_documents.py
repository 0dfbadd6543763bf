"""What documents may be called, and what may be said of them."""

import pytest

from ingest.documents import check_display_name, checked_metadata, content_key, document_id
from mesh.errors import InvalidInput


@pytest.mark.parametrize("name", ["a.txt", "reports/2024/q1.pdf", "名前.md", "a b.txt", "x" * 1024, "..a/b", "C:notes"])
def test_relative_paths_are_names(name: str) -> None:
    check_display_name(name)


@pytest.mark.parametrize(
    "name",
    ["", " ", "/etc/passwd", "../a", "a/../b", "a//b", "a/./b", "a\\..\\b", "C:\\a", "\\a", "a\nb", "a\x00b", "a\x1b[31m",
     "x" * 1025, "a/", "\u2028"],
)  # fmt: skip
def test_path_tricks_and_control_characters_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        check_display_name(name)

    assert raised.value.field == "header.display_name"
    assert raised.value.message.isprintable()


def test_metadata_is_plain_values() -> None:
    given = {"year": 2024.0, "score": 0.5, "draft": True, "tags": ["a", "b"], "who": "me"}

    assert checked_metadata(given) == {"year": 2024, "score": 0.5, "draft": True, "tags": ["a", "b"], "who": "me"}


@pytest.mark.parametrize(
    "metadata",
    [
        {"x": float("nan")},
        {"x": [1, float("inf")]},
        {"x": 10**400},
        {"x": {"y": 1}},
        {"x": [1, "a"]},
        {"x": None},
        {"": "a"},
        {"a.b": "c"},
        {"x": "y" * 20_000},
    ],
)
def test_other_metadata_is_refused(metadata: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        checked_metadata(metadata)


def test_the_same_content_has_the_same_key_and_other_metadata_another() -> None:
    assert content_key("a" * 64, {"x": 1, "y": 2}) == content_key("a" * 64, {"y": 2, "x": 1})
    assert content_key("a" * 64, {"x": 1}) != content_key("a" * 64, {})
    assert document_id("a.txt") == document_id("a.txt") != document_id("b.txt")
