"""Which files a command finds, what they are called, and what must not or cannot be read."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.gathering import Gatherer, check_places
from ingest.origins.folders import LocalFile, find_files
from ingest.sources import Changed, Source, Unreadable, printable
from mesh.errors import InvalidInput

NOBODY = 65534


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def problems(folder: Path) -> dict[str, str]:
    return {source.display_name: source.problem for source in find_files([folder], "")}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; whoever else runs the tests is nobody already."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """One that nobody may read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


async def gathered(*places: Path) -> list[Source]:
    async with Gatherer.open([str(place) for place in places], "", allow_private=False) as gatherer:
        return await gatherer.find()


def test_names_are_relative_to_the_folder_that_was_given(tmp_path: Path) -> None:
    write(tmp_path, "docs/b.txt", "docs/a/c.txt", "single.md")

    found = find_files([tmp_path / "docs", tmp_path / "single.md"], prefix="p/")

    assert [source.display_name for source in found] == ["p/b.txt", "p/a/c.txt", "p/single.md"]


def test_hidden_files_and_linked_folders_of_the_tree_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "docs/.hidden", "docs/.git/x", "docs/a.txt")
    (tmp_path / "docs" / "loop").symlink_to(tmp_path / "docs")

    assert problems(tmp_path / "docs") == {"a.txt": ""}


async def test_the_second_file_of_a_name_has_a_problem_and_the_same_file_again_none(tmp_path: Path) -> None:
    write(tmp_path, "one/a.txt", "two/a.txt")

    found = await gathered(tmp_path / "one", tmp_path / "two", tmp_path / "one" / "a.txt")

    assert [bool(source.problem) for source in found] == [False, True]
    assert "--prefix" in found[1].problem


def test_links_are_followed_within_the_folder_only(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.txt", "docs/a.txt")
    docs = tmp_path / "docs"
    (docs / "inside").symlink_to(docs / "a.txt")
    (docs / "out").symlink_to(tmp_path / "outside" / "secret.txt")
    (docs / "folder").symlink_to(tmp_path / "outside")
    (docs / "broken").symlink_to(docs / "nowhere")
    (docs / "self").symlink_to(docs / "self")

    found = problems(docs)

    assert found.keys() == {"a.txt", "inside", "out", "folder", "broken", "self"}
    assert (found["a.txt"], found["inside"]) == ("", "")
    assert "symbolic link out of" in found["out"]
    assert "symbolic link out of" in found["folder"]
    assert "leads nowhere" in found["broken"]
    assert "leads nowhere" in found["self"]


async def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        found = problems(tmp_path)

    assert "named pipe" in found["pipe"]
    assert "socket" in found["socket"]
    with pytest.raises(Unreadable, match="named pipe"):  # put there after the folder was looked at
        await LocalFile(tmp_path / "pipe").identify()


def test_names_with_control_characters_or_broken_utf8_have_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2Jb.txt").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).touch()

    found = list(find_files([tmp_path], ""))

    assert "control character" in found[0].problem
    assert "is not UTF-8" in found[1].problem
    assert [printable(Path(source.path).name) for source in found] == ["a\\x1b[2Jb.txt", "\\udcff.txt"]


def test_what_may_not_be_read_is_named_and_hides_what_is_below(public_folder: Path) -> None:
    write(public_folder, "closed/a.txt", "b.txt")
    (public_folder / "closed").chmod(0o000)
    with as_nobody():
        found = {source.display_name: source for source in find_files([public_folder], "")}
    (public_folder / "closed").chmod(0o755)

    assert (found["b.txt"].problem, found["b.txt"].hides) == ("", False)
    assert found["closed"].hides
    assert "Permission denied" in found["closed"].problem


async def test_a_file_that_may_not_be_read_says_so(public_folder: Path) -> None:
    write(public_folder, "a.txt")
    (public_folder / "a.txt").chmod(0o000)
    with as_nobody(), pytest.raises(Unreadable, match="Permission denied"):
        LocalFile(public_folder / "a.txt")._identify()


@pytest.mark.parametrize("change", ["longer", "shorter", "same length"])
async def test_a_change_while_it_is_read_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 2_000_000)
    os.utime(
        path, (1_000_000_000, 1_000_000_000)
    )  # so that the next write is at another time, however coarse the clock is
    content = LocalFile(path)
    identity = await content.identify()
    pieces = content.pieces(identity)
    first = await anext(pieces)
    size = {"longer": 3_000_000, "shorter": len(first) + 1, "same length": 2_000_000}[change]
    path.write_bytes(b"y" * size)

    with pytest.raises(Changed):
        async for _ in pieces:
            pass


async def test_a_file_that_stands_still_is_hashed_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    content = LocalFile(path, hashes := {})
    first = await content.identify()
    hashes[str(path)] = (first.stamp, "remembered")
    assert (await content.identify()).sha256 == "remembered"
    path.write_text("two")
    assert (await content.identify()).sha256 not in (first.sha256, "remembered")
    assert hashes[str(path)] == (first.stamp, "remembered")  # it has changed just now, and may change again unnoticed


@pytest.mark.parametrize(
    ("place", "sync", "watch", "message"),
    [
        ("nowhere", False, False, "no file or folder"), ("ftp://h/a", False, False, "of a kind that is not read"),
        ("https://h/a", True, False, "cannot be listed"), ("s3://b/a", False, True, "cannot be watched"),
    ],
)  # fmt: skip
def test_places_that_make_no_sense_are_refused(place: str, sync: bool, watch: bool, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_places([place], sync=sync, watch=watch)


def test_a_single_file_cannot_be_synchronised(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    with pytest.raises(InvalidInput, match="not a folder"):
        check_places([str(tmp_path / "a.txt")], sync=True, watch=False)
