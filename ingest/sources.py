"""Files that a command was pointed at, and what each is called as a document."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A file to send. `problem` says why it cannot be, where that shows before it is opened."""

    path: Path
    display_name: str
    problem: str = ""


def find_sources(paths: Sequence[Path], prefix: str) -> Iterator[Source]:
    """The files below the paths, in a stable order.

    A file in a folder that was given is called by its path in that folder, a file given itself by its name; `prefix` comes
    before both. Hidden files and folders are left out, a link to a folder is not followed. The second of two different
    files with one name has a problem.
    """
    taken: dict[str, Path] = {}
    for given in paths:
        for path, name in _walk(given):
            display_name = unicodedata.normalize("NFC", prefix + name)
            first = taken.setdefault(display_name, path)
            if first is path:
                yield Source(path, display_name)
            elif not _same_file(first, path):
                yield Source(
                    path, display_name, f"{first} has the same name {display_name}: give one of them --prefix."
                )


def _walk(given: Path) -> Iterator[tuple[Path, str]]:
    if not given.is_dir():
        yield given, given.name
        return
    for folder, folders, files in os.walk(given, onerror=None):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                path = Path(folder) / name
                yield path, path.relative_to(given).as_posix()


def _same_file(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False
