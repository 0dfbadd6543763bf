"""Room on disk: asked for before long work, and said plainly when it runs out."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mesh.errors import FailedPrecondition

RESERVE_BYTES = 64 * 1024 * 1024
"""Is to stay free whatever is written."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


def need(folder: Path, size_bytes: int) -> None:
    """FailedPrecondition when the disk of a folder, which need not exist yet, has less room than `size_bytes` and a reserve."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size_bytes + RESERVE_BYTES:
        needed = (size_bytes + RESERVE_BYTES) / 1e6
        raise FailedPrecondition(
            f"{folder} has {free / 1e6:,.0f} MB free; about {needed:,.0f} MB are needed. Make room, or name another folder."
        )


@contextmanager
def full_is_told(folder: Path) -> Iterator[None]:
    """Around writing: a full disk becomes FailedPrecondition."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise FailedPrecondition(
            f"The disk of {folder} is full. What was finished stays; make room and run the same command again."
        ) from error


def create(path: Path) -> BinaryIO:
    """A new file, open for writing, in a folder that is made where it is missing. FailedPrecondition when the disk is full."""
    with full_is_told(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")


def settle(file: BinaryIO) -> None:
    """Closes a file when what was written is on the disk."""
    if not file.closed:
        file.flush()
        os.fsync(file.fileno())
        file.close()


def write_whole(path: Path, content: bytes) -> None:
    """A small file, there whole or as it was before."""
    scratch = path.with_name(f".{path.name}.part")
    with full_is_told(path.parent):
        file = create(scratch)
        file.write(content)
        settle(file)
        scratch.replace(path)
