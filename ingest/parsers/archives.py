"""Archives: their members one at a time, under limits. Members go to one temporary file, never to their name.

ZIP, TAR and what GZIP, BZIP2 or XZ pack. Limits are on members, on unpacked bytes in all and against the packed size, and
on archives in archives; names that point outside, links and devices are refused. The sizes that an archive states are not
believed: bytes are counted as they are unpacked.
"""

import bz2
import gzip
import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ingest.documents import Metadata
from ingest.parsers import media_types
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import Budget, LimitExceeded, ReadLimits, Source, reason
from mesh.errors import InvalidInput, MurpheyError, Unavailable

PIECE_BYTES = 256 * 1024
MIN_RATIO_BYTES = 16 * 1024 * 1024
"""Below it a high ratio of unpacked to packed bytes is only a dull file."""
MAX_NAMED_FAILURES = 50
MAX_NAME_CHARACTERS = 500

_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
_OPENERS = {media_types.GZIP: gzip.open, media_types.BZIP2: bz2.open, media_types.XZ: lzma.open}


@dataclass(frozen=True)
class Member:
    """A file of an archive, unpacked to `path` until the next one is asked for; `problem` says why it was not."""

    name: str
    path: Path
    problem: str = ""


def expand(
    path: Path, media_type: str, name: str, scratch: Path, limits: ReadLimits, budget: Budget
) -> Iterator[Member]:
    """The files of an archive, one at a time. LimitExceeded ends it; InvalidInput when the archive is damaged."""
    packed = max(1, path.stat().st_size)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="archive-") as folder:
        target = Path(folder) / "member"
        unpacked = 0
        try:
            for member, problem, file in _members(path, media_type, name):
                budget.take_member()
                if file is not None:
                    unpacked = _unpack(file, target, packed, unpacked, limits, budget)
                yield Member(member, target, problem)
        except MurpheyError:
            raise
        except _DAMAGED as error:
            raise InvalidInput(f"The archive is damaged or of a kind that is not read: {str(error)[:200]}") from error


def is_container(path: Path, media_type: str) -> bool:
    """Whether it holds several files, and not one that is packed."""
    return media_type in (media_types.ZIP, media_types.TAR) or _is_packed_tar(path, media_type)


def read(source: Source, output: TextOutput) -> Metadata:
    """An archive within another document, such as a mail, or a packed file: every member under its name.

    Members that cannot be read are named with their reason.
    """
    members, failed, before = 0, [], output.content
    for member in expand(source.path, source.media_type, source.name, source.path.parent, source.limits, source.budget):
        members += 1
        problem = member.problem or _read_member(member, source, output)
        if problem:
            failed.append(f"{member.name} (not read: {problem})")
    if members == 0:
        raise InvalidInput("The archive holds no files.")
    if output.content == before:
        first = failed[0] if failed else "they are empty"
        raise InvalidInput(f"None of the archive's {members} files could be read: {first}")
    if failed:
        output.write("\n".join(failed[:MAX_NAMED_FAILURES]) + "\n", is_content=False)
    return {"members": members, "members_not_read": len(failed)}


def _read_member(member: Member, source: Source, output: TextOutput) -> str:
    """Answers why it could not be read; nothing of it is in the text then."""
    try:
        with output.member(member.name):
            output.write(f"# {member.name}\n\n", is_content=False)
            source.read_path(member.path, PurePosixPath(member.name).name, output)
            output.write("\n\n")
    except LimitExceeded:
        raise
    except MurpheyError as error:
        return reason(error)
    return ""


def _members(path: Path, media_type: str, name: str) -> Iterator[tuple[str, str, IO[bytes] | None]]:
    if media_type == media_types.ZIP:
        return _zip_members(path)
    if media_type == media_types.TAR or _is_packed_tar(path, media_type):
        return _tar_members(path)
    return _packed_member(path, media_type, name)


def _zip_members(path: Path) -> Iterator[tuple[str, str, IO[bytes] | None]]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            problem = _problem(entry.filename)
            if entry.flag_bits & 1:
                problem = "it is encrypted"
            if problem:
                yield _shown(entry.filename), problem, None
                continue
            with _opened(archive, entry) as (file, failure):
                yield _shown(entry.filename), failure, file


@contextmanager
def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[tuple[IO[bytes] | None, str]]:
    try:
        file = archive.open(entry)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        yield None, str(error)[:200]
        return
    with file:
        yield file, ""


def _tar_members(path: Path) -> Iterator[tuple[str, str, IO[bytes] | None]]:
    with tarfile.open(path, "r:*") as archive:
        for entry in archive:
            if entry.isdir():
                continue
            problem = _problem(entry.name) or ("" if entry.isfile() else "it is a link or a device")
            yield _shown(entry.name), problem, None if problem else archive.extractfile(entry)


def _packed_member(path: Path, media_type: str, name: str) -> Iterator[tuple[str, str, IO[bytes] | None]]:
    with _OPENERS[media_type](path, "rb") as file:
        yield PurePosixPath(name).stem or "content", "", file  # pyright: ignore[reportReturnType]


def _is_packed_tar(path: Path, media_type: str) -> bool:
    if media_type not in _OPENERS:
        return False
    try:
        with _OPENERS[media_type](path, "rb") as file:
            return bytes(file.read(512))[257:262] == b"ustar"
    except _DAMAGED:
        return False


def _problem(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ":" in parts[0] or ".." in parts:
        return "its name points outside the archive"
    return f"its name is longer than {MAX_NAME_CHARACTERS} characters" if len(name) > MAX_NAME_CHARACTERS else ""


def _shown(name: str) -> str:
    """A name on one line."""
    return "".join(character if character.isprintable() else "?" for character in name)[:MAX_NAME_CHARACTERS]


def _unpack(file: IO[bytes], target: Path, packed: int, unpacked: int, limits: ReadLimits, budget: Budget) -> int:
    """Answers the bytes unpacked so far."""
    with target.open("wb") as copy:
        while piece := file.read(PIECE_BYTES):
            budget.take_bytes(len(piece))
            unpacked += len(piece)
            if unpacked > max(MIN_RATIO_BYTES, packed * limits.max_ratio):
                raise LimitExceeded(
                    f"The archive unpacks to more than {limits.max_ratio} times its size; it was not read."
                )
            try:
                copy.write(piece)
                copy.flush()
            except OSError as error:
                raise Unavailable(
                    f"There is no room to unpack the archive: {error.strerror}. Make room, then retry the job."
                ) from error
    return unpacked
