"""Files of this machine: finds them below folders, identifies and reads them. Nothing outside a given folder is followed."""

import asyncio
import hashlib
import os
import stat
import time
import unicodedata
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.sources import PIECE_BYTES, Changed, Identity, Source, Unreadable, named

SETTLED_S = 2.0
"""A file that changed more recently may change again without its time of change telling: its hash is not remembered."""
SIDECAR = ".meta.json"
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}

Hashes = dict[str, tuple[str, str]]
"""Stamp and SHA-256 by path: what was hashed once is not read again while it stands still."""


@dataclass(frozen=True)
class LocalFile:
    """A file, opened anew each time it is read."""

    path: Path
    hashes: Hashes = field(default_factory=dict, compare=False)

    async def identify(self) -> Identity:
        """Its SHA-256, size and time of change."""
        return await asyncio.to_thread(self._identify)

    async def pieces(self, identity: Identity) -> AsyncGenerator[bytes, None]:
        """Its bytes. Changed when it is another, longer or younger one than was identified."""
        descriptor = await asyncio.to_thread(_open, self.path)
        with os.fdopen(descriptor, "rb") as file:
            read = 0
            while data := await asyncio.to_thread(_read, file):
                read += len(data)
                if read > identity.size_bytes:
                    raise Changed
                yield data
            if _stamp(os.fstat(file.fileno())) != identity.stamp:
                raise Changed

    def _identify(self) -> Identity:
        with os.fdopen(_open(self.path), "rb") as file:
            status = os.fstat(file.fileno())
            stamp = _stamp(status)
            known, sha256 = self.hashes.get(str(self.path), ("", ""))
            if known != stamp:
                sha256 = _hash(file)
            if time.time() - status.st_mtime > SETTLED_S:
                self.hashes[str(self.path)] = (stamp, sha256)
        return Identity(sha256, status.st_size, stamp)


def find_files(paths: Sequence[Path], prefix: str, hashes: Hashes | None = None) -> Iterator[Source]:
    """The files below the paths, in a stable order.

    A file in a folder that was given is called by its path in that folder, a file given itself by its name; `prefix` comes
    before both. Hidden files and folders are left out, and so are files of metadata, `*.meta.json`. Links out of a folder
    have a problem, and so have what is no file, and folders that cannot be read. `hashes` may be given again later.
    """
    hashes = {} if hashes is None else hashes
    for given in paths:
        for path, name, problem, hides in _walk(given):
            display_name = unicodedata.normalize("NFC", prefix + name)
            if problem:
                yield Source(str(path), display_name, problem=problem, hides=hides)
            else:
                yield named(str(path), display_name, LocalFile(path, hashes))


def _walk(given: Path) -> Iterator[tuple[Path, str, str, bool]]:
    """Path, name below the given one, problem, and whether a folder could not be looked into."""
    if not given.is_dir():
        yield given, given.name, "", False
        return
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(given, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            if not name.startswith(".") and not name.endswith(SIDECAR):
                path = Path(folder) / name
                problem = _problem(path, given)
                if problem or name not in links:
                    yield path, path.relative_to(given).as_posix(), problem, name in links
    for error in unreadable:
        path = Path(str(error.filename))
        name = "" if path == given else path.relative_to(given).as_posix()
        yield path, name, f"The folder cannot be read: {error.strerror}", True


def _problem(path: Path, given: Path) -> str:
    """Why what was found in a folder must not or cannot be read."""
    try:
        if path.is_symlink() and not path.resolve(strict=True).is_relative_to(given.resolve()):
            return f"It is a symbolic link out of {given}; it is not followed."
        mode = path.stat().st_mode
    except OSError as error:
        return f"The symbolic link leads nowhere: {error.strerror}" if path.is_symlink() else _reason(error)
    except RuntimeError:  # how Python 3.11 and 3.12 tell a loop of links
        return "The symbolic link leads nowhere: it leads to itself."
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else _no_file(mode)


def _open(path: Path) -> int:
    """A regular file, opened without waiting for whoever might be at the other end of something else. Unreadable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise Unreadable(_no_file(mode))
    return descriptor


def _read(file: Any) -> bytes:
    try:
        return file.read(PIECE_BYTES)
    except OSError as error:
        raise _unreadable(error) from error


def _hash(file: Any) -> str:
    try:
        return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(error) from error


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _no_file(mode: int) -> str:
    return f"It is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a regular file."


def _unreadable(error: OSError) -> Unreadable:
    return Unreadable(_reason(error))


def _reason(error: OSError) -> str:
    return f"The file cannot be read: {error.strerror or error}"
