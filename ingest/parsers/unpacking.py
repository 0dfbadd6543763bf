"""Takes an archive apart into the files that become documents of their own, those of archives in it too, under limits.

Files go to one folder under numbers, never to their names. What a single file was packed by (GZIP, BZIP2, XZ) is no archive:
such a file is read as what it packs.
"""

import hashlib
import shutil
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ingest.documents import check_display_name
from ingest.parsers import archives, media_types
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import Budget, LimitExceeded, ReadLimits, reason
from mesh.errors import InvalidInput, MurpheyError

MAX_LISTED = 100
HIDDEN_BY_TOOLS = "__MACOSX"


@dataclass(frozen=True)
class UnpackedMember:
    """A file of an archive: its path there, `/` also between an archive and the one around it; where it lies; what it is."""

    name: str
    path: str
    sha256: str
    size_bytes: int


def container_type(path: Path, name: str) -> str:
    """The media type of an archive of several files; empty for all else."""
    try:
        media_type = media_types.detect_media_type(path, name)
    except MurpheyError:  # said again when it is read as a document
        return ""
    return media_type if archives.is_container(path, media_type) else ""


def unpack(path: Path, media_type: str, name: str, folder: Path, limits: ReadLimits) -> "Unpacked":
    """All files of the archive at `path`, which will be called `name/…`, in `folder`.

    InvalidInput when it is damaged, over a limit, or holds nothing that can be read.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a worker that died
    folder.mkdir()
    unpacked = Unpacked(name, folder, limits, Budget(limits))
    unpacked.add(path, media_type, "", 1)
    if not unpacked.members:
        count = len(unpacked.refused)
        if count == 0:
            raise InvalidInput("The archive holds no files.")
        raise InvalidInput(f"None of the archive's {count} files could be read: {next(unpacked.not_read())}")
    return unpacked


@dataclass
class Unpacked:
    """The files by name, and why others were not taken. Of two with one name the last counts, as when it is extracted."""

    name: str
    folder: Path
    limits: ReadLimits
    budget: Budget
    members: dict[str, UnpackedMember] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    _number: int = 0

    def add(self, path: Path, media_type: str, inside: str, depth: int) -> None:
        """The files of one archive, whose own name is `inside`, `depth` archives deep."""
        for member in archives.expand(path, media_type, inside, self.folder, self.limits, self.budget):
            name = inside + _tidy(member.name)
            if _is_hidden(name):
                continue
            problem = member.problem or self._take(member.path, name, depth)
            if problem:
                self.refused[name] = problem

    def not_read(self) -> Iterator[str]:
        """What was not taken, with its reason."""
        return (f"{name} (not read: {problem})" for name, problem in self.refused.items())

    def describe(self, output: TextOutput) -> None:
        """The archive's own text: what it holds."""
        output.write(f"{self.name} is an archive of {len(self.members)} files, each a document of its own.\n")
        for title, lines in (("Not read:", list(self.not_read())), ("Files:", list(self.members))):
            if lines:
                more = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
                output.write("\n".join(["", title, *(f"- {line}" for line in [*lines[:MAX_LISTED], *more]), ""]))

    def _take(self, path: Path, name: str, depth: int) -> str:
        """Answers why it could not be taken."""
        try:
            check_display_name(f"{self.name}/{name}")
            if inner := container_type(path, name):
                if depth >= self.limits.max_depth:
                    return f"it lies more than {self.limits.max_depth} archives deep"
                self.add(path, inner, f"{name}/", depth + 1)
            else:
                self._keep(path, name)
        except LimitExceeded:
            raise
        except InvalidInput as error:
            return reason(error)
        return ""

    def _keep(self, path: Path, name: str) -> None:
        self._number += 1
        target = self.folder / str(self._number)
        path.rename(target)
        with target.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.members[name] = UnpackedMember(name, str(target), sha256, target.stat().st_size)
        self.refused.pop(name, None)


def _tidy(name: str) -> str:
    """Without the parts that tools put in for nothing, such as a leading `./`."""
    parts = unicodedata.normalize("NFC", name).split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _is_hidden(name: str) -> bool:
    """As in folders: what begins with a dot, and what a system's own tool adds, is no document."""
    parts = name.split("/")
    return HIDDEN_BY_TOOLS in parts or any(part.startswith(".") and part != ".." for part in parts)
