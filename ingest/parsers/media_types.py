"""What a file is, from its content. The name only tells apart kinds of text that look alike, such as CSV and Markdown."""

import zipfile
from pathlib import Path

from ingest.parsers.encodings import decoded_head
from ingest.parsers.text_types import RTF, text_type
from mesh.errors import InvalidInput, Unsupported

HEAD_BYTES = 64 * 1024
OOXML = "application/vnd.openxmlformats-officedocument."
OPEN_DOCUMENT = "application/vnd.oasis.opendocument."

PDF, EPUB = "application/pdf", "application/epub+zip"
DOCX, PPTX = OOXML + "wordprocessingml.document", OOXML + "presentationml.presentation"
XLSX = OOXML + "spreadsheetml.sheet"
ODT, ODS, ODP = (OPEN_DOCUMENT + kind for kind in ("text", "spreadsheet", "presentation"))
DOC, PPT, XLS, MSG = (
    "application/msword",
    "application/vnd.ms-powerpoint",
    "application/vnd.ms-excel",
    "application/vnd.ms-outlook",
)
ZIP, TAR, GZIP = "application/zip", "application/x-tar", "application/gzip"
BZIP2, XZ = "application/x-bzip2", "application/x-xz"

SHEETS = (XLSX, XLS, ODS)
SLIDES = (PPTX, PPT, ODP)
ARCHIVES = (ZIP, TAR, GZIP, BZIP2, XZ)
RECORDINGS = ("audio/wav", "audio/mpeg", "audio/ogg", "audio/flac", "audio/aac", "audio/mp4", "video/mp4")
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/tiff", "image/bmp", "image/webp")

_BY_MAGIC = [
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"), (b"\xff\xd8\xff", 0, "image/jpeg"), (b"GIF8", 0, "image/gif"),
    (b"II*\0", 0, "image/tiff"), (b"MM\0*", 0, "image/tiff"), (b"BM", 0, "image/bmp"), (b"WEBP", 8, "image/webp"),
    (b"WAVE", 8, "audio/wav"), (b"ID3", 0, "audio/mpeg"), (b"OggS", 0, "audio/ogg"), (b"fLaC", 0, "audio/flac"),
    *((magic, 0, "audio/mpeg") for magic in (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2")),
    (b"\xff\xf1", 0, "audio/aac"), (b"\xff\xf9", 0, "audio/aac"),
    *((b"ftyp" + brand, 4, "image/heif") for brand in (b"heic", b"heix", b"mif1", b"avif")),
    (b"ftypM4A", 4, "audio/mp4"), (b"ftypM4B", 4, "audio/mp4"), (b"ftyp", 4, "video/mp4"),
    (b"\x1f\x8b", 0, GZIP), (b"BZh", 0, BZIP2), (b"\xfd7zXZ\0", 0, XZ),
    (b"7z\xbc\xaf\x27\x1c", 0, "application/x-7z-compressed"), (b"Rar!", 0, "application/vnd.rar"),
    (b"\x28\xb5\x2f\xfd", 0, "application/zstd"), (b"ustar", 257, TAR), (b"\x7fELF", 0, "application/x-executable"),
    (b"MZ", 0, "application/vnd.microsoft.portable-executable"), (b"SQLite format 3\0", 0, "application/vnd.sqlite3"),
]  # fmt: skip

_OLE = [
    ("EncryptedPackage", "encrypted"), ("WordDocument", DOC), ("PowerPoint Document", PPT), ("Workbook", XLS), ("Book", XLS),
    ("__substg1.0_", MSG), ("__properties_version1.0", MSG),
]  # fmt: skip


def detect_media_type(path: Path, name: str) -> str:
    """The media type of a file called `name`. InvalidInput for an empty one, Unsupported for what no parser reads."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise InvalidInput("The file is empty.")
    if not head.strip(b"\0"):
        raise InvalidInput("The file begins with zero bytes only; nothing can be read from it.")
    if b"%PDF-" in head[:1024]:
        return PDF
    if head.startswith(b"PK"):
        return _zip_type(path, head)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _ole_type(path)
    if head.startswith(b"{\\rtf"):
        return RTF
    for magic, at, media_type in _BY_MAGIC:
        if head.startswith(magic, at) and not _is_text(head):
            return _readable(media_type)
    return text_type(decoded_head(head), name)


def _readable(media_type: str) -> str:
    if media_type not in (*IMAGES, *ARCHIVES, *RECORDINGS):
        raise Unsupported(f"This is {media_type}, which is not read. Upload a document with text.")
    return media_type


def _zip_type(path: Path, head: bytes) -> str:
    mark = head[30:110]
    if mark.startswith(b"mimetype"):
        for media_type in (EPUB, ODT, ODS, ODP):
            if mark.startswith(media_type.encode(), 8):
                return media_type
    names = _zip_names(path) or [head[:HEAD_BYTES].decode("latin-1")]
    for folder, media_type in (("word/", DOCX), ("ppt/", PPTX), ("xl/", XLSX)):
        if any(folder in name for name in names) and any(
            "[Content_Types].xml" in name or "_rels/" in name for name in names
        ):
            return media_type
    if any(name == "META-INF/container.xml" for name in names):
        return EPUB
    return ZIP


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()[:10_000]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _ole_type(path: Path) -> str:
    """An OLE2 file's directory names its streams in UTF-16."""
    with path.open("rb") as file:
        content = file.read(64 * 1024 * 1024)
    for stream, media_type in _OLE:
        if stream.encode("utf-16-le") in content:
            if media_type == "encrypted":
                raise InvalidInput("The document is encrypted. Remove its password and upload it again.")
            return media_type
    raise Unsupported(
        "This is an OLE2 file of a kind that is not read: no Word, Excel, PowerPoint or Outlook document."
    )


def _is_text(head: bytes) -> bool:
    """Two printable letters of a magic number may also begin a sentence."""
    return not any(byte < 9 or 14 <= byte < 27 for byte in head[:4096])
