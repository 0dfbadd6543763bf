"""What a command was pointed at: things to send, what each is called as a document, and where their bytes come from."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from ingest.documents import Metadata, check_display_name
from mesh.errors import InvalidInput, MurpheyError

STORES, WEB = ("s3", "gs", "az"), ("https", "http")
"""Schemes of URLs."""
PIECE_BYTES = 512 * 1024


class Changed(Exception):
    """The content is no longer what it was when it was identified."""


class Unreadable(MurpheyError):
    """The content cannot be read; the message says why."""


@dataclass(frozen=True)
class Identity:
    """Tells one content from another before it is sent.

    `sha256` is in hexadecimal, empty where only the origin has the bytes; `size_bytes` is 0 where it is not known;
    `stamp` changes when the content does, such as a time of change or an ETag; `known` goes into the metadata.
    """

    sha256: str
    size_bytes: int
    stamp: str
    known: Metadata = field(default_factory=dict)


class Content(Protocol):
    """Bytes somewhere. Both raise Unreadable."""

    async def identify(self) -> Identity:
        """What the content is now."""
        ...

    def pieces(self, identity: Identity) -> AsyncGenerator[bytes, None]:
        """The bytes. Changed, at the end at the latest, when they are not those that were identified."""
        ...


@dataclass(frozen=True)
class Source:
    """Something to send; `path` is its path or URL. `problem` says why it cannot be, where that shows at once.

    With `hides` it stands for a folder that could not be looked into: documents below its name may still exist.
    """

    path: str
    display_name: str
    content: Content | None = None
    metadata: Metadata = field(default_factory=dict)
    problem: str = ""
    hides: bool = False


def named(path: str, display_name: str, content: Content) -> Source:
    """A source, or one with a problem when it cannot be called that."""
    try:
        check_display_name(display_name)
    except InvalidInput as error:
        return Source(path, display_name, problem=error.message)
    return Source(path, display_name, content)


def printable(text: str) -> str:
    """On one line of a terminal, whatever a file name holds: control characters and broken UTF-8 are escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
