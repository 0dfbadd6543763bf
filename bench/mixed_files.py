"""Files of many formats for the benchmarks of ingest: manuals, filings and samples of formats under `../shared/data/docs`.

What is recognised rather than read, images and recordings, is left out: it would be measured and nothing else.
"""

import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from bench.corpora import data_folder

FOLDERS = ("debian", "filings", "unstructured")
RECOGNISED = (
    ".png",
    ".jpg",
    ".jpeg",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".heic",
    ".mp3",
    ".wav",
    ".ogg",
    ".flac",
    ".m4a",
)


def mixed_files(max_bytes: int | None = None) -> list[Path]:
    """All of them, in a fixed order; only those of at most so many bytes where that is given."""
    files = [path for folder in FOLDERS for path in sorted((data_folder() / "docs" / folder).rglob("*"))]
    read = [path for path in files if path.is_file() and path.suffix.lower() not in RECOGNISED]
    return [path for path in read if path.stat().st_size and (max_bytes is None or path.stat().st_size <= max_bytes)]


def write_copies(files: Sequence[Path], folder: Path, *, most_files: int = 0, most_bytes: int = 0) -> int:
    """Copies the files over and over, each round into a folder of its own, until there are so many; returns how many."""
    made = written = 0
    for round_ in count():
        for number, path in enumerate(files):
            if (most_files and made == most_files) or (most_bytes and written >= most_bytes):
                return made
            target = folder / f"{round_}" / f"{number}-{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            made, written = made + 1, written + path.stat().st_size
        if not most_files and not most_bytes:
            return made
    raise AssertionError("count() has no end")
