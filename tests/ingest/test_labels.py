"""Metadata from the command line, from a CSV and from beside the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from ingest.labels import Labels, typed
from ingest.origins.folders import find_files
from ingest.sources import Source
from mesh.errors import InvalidInput


def labelled(folder: Path, pairs: list[str], table: Path | None = None, prefix: str = "") -> dict[str, Source]:
    labels = Labels.read(pairs, table)
    return {source.display_name: source for source in labels.put_on(find_files([folder], prefix), prefix)}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024", 2024), ("1.5", 1.5), ("true", True), ("Berlin", "Berlin"), ('"2024"', "2024"), ("", ""),
        ("2024-05-01", "2024-05-01T00:00:00Z"), ("2024-05-01T10:00:00+02:00", "2024-05-01T10:00:00+02:00"),
        ("2024-13-01", "2024-13-01"), ('["a", "b"]', ["a", "b"]), ("null", "null"),
        ("1" * 5000, "1" * 5000), ('{"a": 1}', '{"a": 1}'),
    ],
)  # fmt: skip
def test_a_value_has_the_type_that_it_looks_like(text: str, value: Any) -> None:
    assert typed(text) == value


def test_a_key_that_comes_again_makes_a_list() -> None:
    assert Labels.read(["tag=a", "year=2023", "tag=b", "year=2024"], None).for_all == {
        "tag": ["a", "b"],
        "year": [2023, 2024],
    }
    assert Labels.read(["id=7", "id=x"], None).for_all == {"id": ["7", "x"]}


@pytest.mark.parametrize("pair", ["year", "=2024", "bad key=1", "x=NaN", "x=1" + "0" * 400])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(InvalidInput):
        Labels.read([pair], None)


def test_the_more_particular_wins(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt"):
        (docs / name).write_text("words")
    (docs / "a.txt.meta.json").write_text(json.dumps({"author": "sidecar", "on": "2024-05-01", "gone": None}))
    table = tmp_path / "table.csv"
    table.write_text("path,author,year,note\na.txt,csv,2020,\nsub/b.txt,csv,2021,x\nmissing.txt,csv,2022,\n")

    labels = Labels.read(["author=line", "lang=de"], table)
    found = {source.display_name: source for source in labels.put_on(find_files([docs], "p/"), "p/")}

    assert set(found) == {"p/a.txt", "p/sub/b.txt"}
    assert found["p/a.txt"].metadata == {"author": "sidecar", "lang": "de", "year": 2020, "on": "2024-05-01T00:00:00Z"}
    assert found["p/sub/b.txt"].metadata == {"author": "csv", "lang": "de", "year": 2021, "note": "x"}
    assert labels.unused == {"missing.txt"}


@pytest.mark.parametrize(
    "content", ["{", "[1]", '{"bad key": 1}', '{"a": {"b": 1}}', '{"a": [1, "x"]}', "\ufeff\ufeff"]
)
def test_a_bad_sidecar_fails_its_file_alone(tmp_path: Path, content: str) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("words")
    (tmp_path / "a.txt.meta.json").write_text(content)

    found = labelled(tmp_path, ["lang=de"])

    assert found["a.txt"].problem
    assert (found["b.txt"].problem, found["b.txt"].metadata) == ("", {"lang": "de"})


def test_a_file_whose_name_leaves_no_room_for_a_sidecars_has_none(tmp_path: Path) -> None:
    (tmp_path / ("x" * 250)).write_text("words")

    [source] = labelled(tmp_path, ["lang=de"]).values()

    assert (source.problem, source.metadata) == ("", {"lang": "de"})


def test_a_sidecar_whose_file_is_gone_is_no_document_unless_given_itself(tmp_path: Path) -> None:
    sidecar = tmp_path / "notes.txt.meta.json"
    sidecar.write_text("{}")
    assert list(labelled(tmp_path, [])) == []
    assert list(labelled(sidecar, [])) == ["notes.txt.meta.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("author\nx\n", "no column"), ("path,year\na,1\na,2\n", "line 3: a comes twice"), ("path,y\na,1,2\n", "more fields"),
        ("path,bad key\na,1\n", "line 2"), ("", "no column"), ("path,year\n,1\n", "is empty"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        Labels.read([], tmp_path / "t.csv")
