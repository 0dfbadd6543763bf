"""Documents: what they are called, what is known of them, and in which states they are. No storage, no transport."""

import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from mesh.errors import InvalidInput, MurpheyError
from mesh.names import document_name

MAX_NAME_CHARACTERS = 1024
MAX_METADATA_BYTES = 16 * 1024
MAX_BATCH_CHARACTERS = 64
MAX_NUMBER = sys.float_info.max
PIPELINE = 2
"""Goes into every version: raise it when the same bytes must be parsed or cut anew."""

MetadataValue: TypeAlias = str | bool | float | int | list[str] | list[float | int]
Metadata: TypeAlias = dict[str, MetadataValue]


class DocumentState(IntEnum):
    """Numbered as in the contract."""

    PENDING = 1
    LIVE = 2
    FAILED = 3


@dataclass(frozen=True)
class Failure:
    """Why something was given up: a `google.rpc` code, a reason for machines and a sentence for people."""

    code: int
    reason: str
    message: str

    @classmethod
    def of(cls, error: MurpheyError) -> "Failure":
        """The failure that an error stands for."""
        return cls(error.code, error.reason, error.message)


@dataclass(frozen=True)
class NewUpload:
    """A document as its sender describes it; `archive` is the id of the document that it is a member of."""

    collection: str
    display_name: str
    metadata: Metadata
    batch: str
    archive: str = ""

    @property
    def document_id(self) -> str:
        """The same name is the same document."""
        return document_id(self.display_name)


@dataclass(frozen=True)
class Version:
    """One content of a document, as far as it has been worked on. Lengths are in bytes and in characters (code points)."""

    id: str
    content_key: str
    sha256: str
    size_bytes: int
    raw_key: str
    text_key: str
    media_type: str
    text_bytes: int
    text_length: int
    page_count: int
    chunk_count: int
    metadata: Metadata
    found: Metadata


@dataclass(frozen=True)
class MemberCounts:
    """How many members of an archive are in which state."""

    pending: int = 0
    live: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Document:
    """A document as people see it; `shown` is the live version, or the newest one where none is live.

    `archive` is the id of the document that it is a member of; `members` are counted where it is an archive.
    """

    collection: str
    id: str
    display_name: str
    state: DocumentState
    live_version: str
    shown: Version | None
    failure: Failure | None
    job: str
    created_us: int
    updated_us: int
    archive: str = ""
    members: MemberCounts | None = None

    @property
    def name(self) -> str:
        """Its resource name."""
        return document_name(self.collection, self.id)


def document_id(display_name: str) -> str:
    """A stable id of 24 hexadecimal digits."""
    return hashlib.blake2b(display_name.encode(), digest_size=12).hexdigest()


def content_key(sha256: str, metadata: Metadata) -> str:
    """Equal for uploads that would give the same chunks: the same bytes with the same metadata."""
    described = json.dumps([sha256, metadata, PIPELINE], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(described.encode(), digest_size=16).hexdigest()


def check_sha256(sha256: str, field: str) -> None:
    """InvalidInput unless it is empty or a hash in hexadecimal."""
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InvalidInput("sha256 must be 64 hexadecimal digits.", field=field)


def check_display_name(name: str, field: str = "header.display_name") -> None:
    """InvalidInput unless it is a relative path that shows as one line."""
    problem = _name_problem(name)
    if problem:
        shown = name[:100].encode("unicode_escape").decode()
        raise InvalidInput(
            f"The document name '{shown}' {problem}. Use a file name or a relative path such as reports/2024.pdf.",
            field=field,
        )


def _name_problem(name: str) -> str:
    if not name.strip():
        return "is empty"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has {len(name)} characters; {MAX_NAME_CHARACTERS} are allowed"
    categories = {unicodedata.category(character) for character in name}
    if "Cs" in categories:
        return "is not UTF-8"
    if categories & {"Cc", "Zl", "Zp"}:
        return "holds a control character"
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or (len(parts[0]) == 2 and parts[0][1] == ":" and len(parts) > 1):
        return "is an absolute path"
    if any(part in ("", ".", "..") for part in parts):
        return "holds an empty part, '.' or '..'"
    return ""


def check_batch(batch: str, field: str = "header.batch") -> None:
    """InvalidInput unless it is a short label."""
    if len(batch) > MAX_BATCH_CHARACTERS or not batch.isprintable():
        raise InvalidInput(
            f"The batch label has {len(batch)} characters or a control character; {MAX_BATCH_CHARACTERS} printable ones "
            "are allowed.",
            field=field,
        )


def checked_metadata(values: Mapping[str, object]) -> Metadata:
    """Plain values: strings, booleans, finite numbers, lists of strings or of numbers. InvalidInput for others."""
    metadata = {key: _checked_value(key, value) for key, value in values.items()}
    if len(json.dumps(metadata, ensure_ascii=False).encode(errors="replace")) > MAX_METADATA_BYTES:
        raise InvalidInput(f"The metadata has more than {MAX_METADATA_BYTES} bytes.", field="header.metadata")
    return metadata


def _checked_value(key: str, value: object) -> MetadataValue:
    field = f"header.metadata.{key[:64]}"
    if not key or len(key) > 64 or not all(part.isalnum() or part in "_-" for part in key):
        raise InvalidInput(
            f"{key[:64]!r} is not a metadata key: use 1 to 64 letters, digits, - and _.", field="header.metadata"
        )
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return _checked_number(key, value)
    if isinstance(value, Sequence) and all(isinstance(item, str) for item in value):
        return [str(item) for item in value]
    if isinstance(value, Sequence) and all(_is_number(item) for item in value):
        return [_checked_number(key, item) for item in value]
    raise InvalidInput(
        f"Metadata {key} must be a string, a number, a boolean, or a list of strings or of numbers.", field=field
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked_number(key: str, value: float | int) -> float | int:
    """Whole numbers as such: over gRPC all come as doubles."""
    if not -MAX_NUMBER <= value <= MAX_NUMBER:  # nor is NaN, nor a whole number that no float holds
        raise InvalidInput(f"Metadata {key} is no finite number.", field=f"header.metadata.{key[:64]}")
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
