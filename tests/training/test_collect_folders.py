"""Folders of text files."""

from pathlib import Path

import pytest

from mesh.errors import InvalidInput, NotFound
from training import records
from training.collect import folders
from training.collect.collecting import collect
from training.collect.folders import Folder


def run(folder: Path, out: Path, **options: int) -> list[records.Record]:
    manifest = collect(Folder(folder, "CC0-1.0"), out, **options)  # pyright: ignore[reportArgumentType]
    return [record for name in manifest.shards or [] for record in records.read(out / name)]


def filled(folder: Path) -> Path:
    (folder / "b").mkdir(parents=True)
    (folder / "a.txt").write_text("first")
    (folder / "b" / "latin.txt").write_bytes("Größe und Übermaß".encode("latin-1"))
    (folder / "b" / "picture.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "c.md").write_text("# last")
    (folder / "empty.txt").write_text("")
    (folder / ".hidden").write_text("secret")
    return folder


def test_text_files_become_records(tmp_path: Path) -> None:
    folder = filled(tmp_path / "texts")
    manifest = collect(Folder(folder, "CC0-1.0"), tmp_path / "out")
    found = [record for name in manifest.shards or [] for record in records.read(tmp_path / "out" / name)]
    assert [each.text for each in found] == ["first", "Größe und Übermaß", "# last"]
    assert [each.id for each in found] == ["folder/a.txt", "folder/b/latin.txt", "folder/c.md"]
    assert found[0].source == (folder / "a.txt").as_uri()
    assert found[0].licence == "CC0-1.0"
    assert found[0].date.endswith("+00:00")
    assert manifest.dropped == {"not text": 1, "no text": 1}


def test_it_goes_on_within_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_CHARACTERS", 1_000)
    folder = tmp_path / "texts"
    folder.mkdir()
    text = "\n\n".join(f"Paragraph {number} says what has to be said about it." for number in range(200))
    (folder / "long.txt").write_text(text)
    (folder / "short.txt").write_text("the end")
    run(folder, tmp_path / "out", limit=3)
    found = run(folder, tmp_path / "out")
    assert found == run(folder, tmp_path / "whole")
    assert max(len(each.text) for each in found) <= 1_000
    assert "\n\n".join(each.text for each in found[:-1]) == text
    assert found[1].id == "folder/long.txt#2"


def test_a_folder_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no files"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(NotFound):
        run(tmp_path / "nowhere", tmp_path / "out")
