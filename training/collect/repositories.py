"""Repositories of source code on this machine: clones, and archives as GitHub hands them out. Nothing is unpacked to disk."""

import re
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from mesh.errors import Corrupt, InvalidInput, NotFound
from training.collect.source_files import MAX_BYTES, is_licence, licence_of

MAX_UNPACKED_BYTES = 20_000_000_000
_TOLD_LICENCE_BYTES = 100_000
_GITHUB = re.compile(r"(?:https?://(?:[^@/]+@)?|git@|ssh://git@)([\w.-]+)[:/](.+?)(?:\.git)?/?$")


@dataclass(frozen=True)
class SourceFile:
    """A file of a repository; `read` gives its bytes, as long as the next file was not asked for."""

    path: str
    size_bytes: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Repository:
    """`url` is its page, or where it lies here; `licence` an SPDX identifier or empty; `date` of its last change."""

    name: str
    url: str
    revision: str
    date: str
    licence: str
    files: Callable[[], Iterator[SourceFile]]

    def source(self, path: str) -> str:
        """The address of a file at this revision."""
        return f"{self.url}/blob/{self.revision}/{path}" if self.url.startswith("http") else f"{self.url}/{path}"


def open_clone(folder: Path) -> Repository:
    """What is committed in a clone. InvalidInput when it is none or nothing is."""
    head = _git(folder, "rev-parse", "--verify", "HEAD").decode().strip()
    top = _git(folder, "ls-tree", "--name-only", "-z", "HEAD").decode(errors="replace").split("\0")
    licence = licence_of([_git(folder, "show", f"HEAD:{name}") for name in top if is_licence(name)])
    origin = subprocess.run(
        ["git", "-C", str(folder), "remote", "get-url", "origin"], capture_output=True, text=True, check=False
    ).stdout.strip()
    found = _GITHUB.match(origin)
    name, url = (
        (found[2], f"https://{found[1]}/{found[2]}") if found else (folder.resolve().name, folder.resolve().as_uri())
    )
    date = _git(folder, "log", "-1", "--format=%cI").decode().strip()
    return Repository(name, url, head, date, licence, lambda: _of_clone(folder))


def open_archive(path: Path, name: str = "", url: str = "", licence: str = "", date: str = "") -> Repository:
    """What is in a tar or zip archive; what the caller knows goes before what the archive tells. Corrupt when it is cut off."""
    with _readable(path):
        names: list[str] = []
        licences: list[bytes] = []
        revision, unpacked = _revision(path), 0
        for file in _members(path):
            unpacked += file.size_bytes
            if unpacked > MAX_UNPACKED_BYTES:
                raise InvalidInput(f"{path} unpacks to more than {MAX_UNPACKED_BYTES} bytes; it is not read.")
            names.append(file.path)
            folder, _, last = file.path.rpartition("/")
            if "/" not in folder and is_licence(last) and file.size_bytes < _TOLD_LICENCE_BYTES:
                licences.append(file.read())
    prefix = _prefix(names)
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return Repository(
        name or prefix.rstrip("/") or path.name, url or path.resolve().as_uri(), revision, date or changed,
        licence or licence_of(licences), lambda: _of_archive(path, prefix),
    )  # fmt: skip


def _of_clone(folder: Path) -> Iterator[SourceFile]:
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", "archive", "--format=tar", "HEAD"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                yield from _of_tar(archive)
        finally:
            process.kill()


def _of_archive(path: Path, prefix: str) -> Iterator[SourceFile]:
    with _readable(path):
        for file in _members(path):
            yield SourceFile(file.path.removeprefix(prefix), file.size_bytes, file.read)


def _members(path: Path) -> Iterator[SourceFile]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from _of_zip(archive)
        return
    with tarfile.open(path, "r|*") as archive:
        yield from _of_tar(archive)


def _of_tar(archive: tarfile.TarFile) -> Iterator[SourceFile]:
    for member in archive:
        if member.isfile():
            yield SourceFile(member.name, member.size, lambda member=member: _bounded(archive.extractfile(member)))


def _of_zip(archive: zipfile.ZipFile) -> Iterator[SourceFile]:
    for member in archive.infolist():
        if not member.is_dir():
            yield SourceFile(member.filename, member.file_size, lambda member=member: _bounded(archive.open(member)))


def _bounded(file: IO[bytes] | None) -> bytes:
    """Whatever size the archive claims, no more is read."""
    if file is None:
        return b""
    with file:
        return file.read(MAX_BYTES + 1)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise Corrupt(f"{path} is damaged or no tar or zip archive: {error or type(error).__name__}.") from error


def _revision(path: Path) -> str:
    """The commit, which GitHub writes into the archive's comment."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode(errors="replace")
    with tarfile.open(path, "r|*") as archive:
        archive.next()
        return archive.pax_headers.get("comment", "")


def _prefix(names: list[str]) -> str:
    """The one folder in which all is; empty when there is none."""
    tops = {name.partition("/")[0] for name in names}
    return f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in names) else ""


def _git(folder: Path, *arguments: str) -> bytes:
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.")
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise InvalidInput(f"{folder} is not a clone with a commit: {told[-1] if told else 'git failed'}")
    return done.stdout
