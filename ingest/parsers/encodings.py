"""Text files: which encoding they have, and the same text as UTF-8. Valid UTF-8 is taken as it is, byte for byte."""

import codecs
from pathlib import Path

from charset_normalizer import from_bytes

from mesh.errors import InvalidInput, Unsupported

READ_BYTES = 1 << 18
SAMPLE_BYTES = 1 << 16
SMALL_SAMPLE_BYTES = 256
"""Below it statistics only guess, and Windows-1252 is what small files mostly are."""

_BYTE_ORDER_MARKS = [
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
]  # fmt: skip
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
MIN_ORDINARY_SHARE = 0.7
"""Of the characters of UTF-16 without a mark: Latin letters and white space. Other bytes decode too, to all of Unicode."""
_CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\f\b\x1b") + b"\x7f"
MAX_CONTROL_SHARE = 0.02


def find_encoding(path: Path) -> str:
    """The name of the encoding; `utf-8` when the file can be used as it stands. Unsupported when it is not text."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    marked = _marked(sample) or _wide(sample)
    if marked:
        return marked
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if b"\0" in sample or controls > MAX_CONTROL_SHARE * len(sample):
        raise Unsupported("The content is of no type that is read: it is neither text nor a known document format.")
    return "utf-8" if _is_utf8(path) else _guess(sample)


def decoded_head(head: bytes) -> bytes:
    """The beginning of a text in UTF-8, as far as its encoding shows at once; otherwise as it is."""
    encoding = _marked(head) or _wide(head)
    return head.decode(encoding, "replace").encode("utf-8", "replace") if encoding else head


def read_text(path: Path) -> str:
    """A whole text. Unsupported when it is not text."""
    return path.read_bytes().decode(find_encoding(path), "replace")


def transcode(path: Path, encoding: str, output: Path, max_bytes: int) -> None:
    """Writes the text as UTF-8, in bounded memory; bytes that the encoding does not have become U+FFFD."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    written = 0
    with path.open("rb") as source, output.open("wb") as target:
        while data := source.read(READ_BYTES):
            written += target.write(decoder.decode(data).encode("utf-8", "replace"))
            if written > max_bytes:
                raise InvalidInput(f"The text has more than {max_bytes} bytes in UTF-8; split the file.")
        target.write(decoder.decode(b"", final=True).encode("utf-8", "replace"))


def _marked(sample: bytes) -> str:
    return next((encoding for mark, encoding in _BYTE_ORDER_MARKS if sample.startswith(mark)), "")


def _wide(sample: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: every second byte, or three of four, are zero in the text of most alphabets."""
    sample = sample[: len(sample) // 4 * 4]
    if not sample or sample.count(0) < len(sample) // 4:
        return ""
    for encoding in _WIDE:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        ordinary = sum(character.isprintable() or character in "\r\n\t" for character in text if ord(character) < 0x250)
        if ordinary >= MIN_ORDINARY_SHARE * len(text):
            return encoding
    return ""


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                if not data.isascii() or decoder.getstate()[0]:
                    decoder.decode(data)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _guess(sample: bytes) -> str:
    if len(sample) >= SMALL_SAMPLE_BYTES:
        best = from_bytes(sample).best()
        if best is not None and best.encoding != "ascii":
            return best.encoding
    try:
        sample.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"
