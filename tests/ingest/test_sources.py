"""Which files a command sends, and what they are called."""

from pathlib import Path

from ingest.sources import find_sources


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_names_are_relative_to_the_folder_that_was_given(tmp_path: Path) -> None:
    write(tmp_path, "docs/b.txt", "docs/a/c.txt", "single.md")

    found = find_sources([tmp_path / "docs", tmp_path / "single.md"], prefix="p/")

    assert [source.display_name for source in found] == ["p/b.txt", "p/a/c.txt", "p/single.md"]


def test_hidden_files_and_linked_folders_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "docs/.hidden", "docs/.git/x", "docs/a.txt")
    (tmp_path / "docs" / "loop").symlink_to(tmp_path / "docs")

    assert [source.display_name for source in find_sources([tmp_path / "docs"], "")] == ["a.txt"]


def test_the_second_file_of_a_name_has_a_problem_and_the_same_file_again_none(tmp_path: Path) -> None:
    write(tmp_path, "one/a.txt", "two/a.txt")

    found = list(find_sources([tmp_path / "one", tmp_path / "two", tmp_path / "one" / "a.txt"], ""))

    assert [bool(source.problem) for source in found] == [False, True]
    assert "--prefix" in found[1].problem
