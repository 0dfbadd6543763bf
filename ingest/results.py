"""What a command tells of each document, and how far it is with all of them."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["indexed", "unchanged", "replaced", "failed", "removed"]


@dataclass(frozen=True)
class Result:
    """What became of a document; `path` is its file's path or URL."""

    path: str
    document: str
    status: Status
    chunks: int
    error: str | None


@dataclass
class Progress:
    """How far all files together are; `idle` ones ended without work; chunks are those of files that have been cut."""

    found: int = 0
    idle: int = 0
    stored: int = 0
    parsed: int = 0
    chunks: int = 0
    embedded: int = 0
    ended: int = 0
