"""Whether a zstandard file is whole, told from its frames and blocks without unpacking any (RFC 8878, section 3.1).

The decompressor itself ends silently where a frame is cut off, and finds damage only after unpacking all that stands before.
"""

from pathlib import Path
from typing import BinaryIO

from mesh.errors import Corrupt, InvalidInput

_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_DICTIONARY_BYTES = (0, 1, 2, 4)
_RLE, _RESERVED = 1, 3


def check_whole(path: Path) -> None:
    """Corrupt when the file is cut off, InvalidInput when it is not zstandard. Takes milliseconds a gigabyte."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) not in (_MAGIC, b"") and not _is_skippable(path):
            raise InvalidInput(f"{path} is not a zstandard file.")
        file.seek(0)
        if size == 0:
            raise Corrupt(f"{path} is empty.")
        while file.tell() < size:
            _skip_frame(file, size, path)


def _is_skippable(path: Path) -> bool:
    with path.open("rb") as file:
        return int.from_bytes(file.read(4), "little") in _SKIPPABLE


def _skip_frame(file: BinaryIO, size: int, path: Path) -> None:
    magic = _take(file, 4, path)
    if int.from_bytes(magic, "little") in _SKIPPABLE:
        _pass_over(file, int.from_bytes(_take(file, 4, path), "little"), size, path)
        return
    if magic != _MAGIC:
        raise Corrupt(f"{path} has bytes at {file.tell() - 4} that are not zstandard. Fetch or make it again.")
    has_checksum = _skip_header(file, size, path)
    last = False
    while not last:
        header = int.from_bytes(_take(file, 3, path), "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == _RESERVED:
            raise Corrupt(f"{path} is damaged at byte {file.tell() - 3}. Fetch or make it again.")
        _pass_over(file, 1 if kind == _RLE else length, size, path)
    if has_checksum:
        _pass_over(file, 4, size, path)


def _skip_header(file: BinaryIO, size: int, path: Path) -> bool:
    """Passes over a frame's header; True when a checksum follows its blocks."""
    descriptor = _take(file, 1, path)[0]
    single = bool(descriptor & 0x20)
    content_bytes = (1 if single else 0, 2, 4, 8)[descriptor >> 6]
    _pass_over(file, (0 if single else 1) + _DICTIONARY_BYTES[descriptor & 3] + content_bytes, size, path)
    return bool(descriptor & 4)


def _take(file: BinaryIO, count: int, path: Path) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise _truncated(path)
    return found


def _pass_over(file: BinaryIO, count: int, size: int, path: Path) -> None:
    if file.tell() + count > size:
        raise _truncated(path)
    file.seek(count, 1)


def _truncated(path: Path) -> Corrupt:
    return Corrupt(f"{path} is truncated: its last frame ends after the file. Fetch or make it again.")
