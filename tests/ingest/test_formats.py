"""Readers of single formats, on small files made here: what comes out, where it stands, and what is refused."""

import email.message
import gzip
import hashlib
import io
import resource
import tarfile
import zipfile
from pathlib import Path

import pytest

from ingest.parsers.ocr import Recognizer
from ingest.parsers.parsing import ParsedFile, parse_file
from ingest.parsers.pdf_tables import may_have_table
from ingest.parsers.reading import ReadLimits
from ingest.places import Place
from ingest.texts import TextIndex
from mesh.errors import InvalidInput, Unavailable
from tests.ingest.conftest import NO_SPEECH

LIMITS = ReadLimits(max_text_bytes=1 << 20, max_members=20, max_unpacked_bytes=1 << 22)
NO_OCR = Recognizer("none")


def read(
    tmp_path: Path, name: str, data: bytes, limits: ReadLimits = LIMITS
) -> tuple[str, TextIndex | None, ParsedFile]:
    path, text, index, members = (tmp_path / part for part in ("raw", "text", "index", "members"))
    path.write_bytes(data)
    parsed = parse_file(path, name, text, index, members, NO_OCR, NO_SPEECH, limits)
    content = (path if parsed.text_is_raw else text).read_bytes().decode()
    assert {entry.name for entry in tmp_path.iterdir()} <= {"raw", "text", "index", "members"}
    return content, TextIndex.from_bytes(index.read_bytes()) if parsed.has_index else None, parsed


def place(found: tuple[str, TextIndex | None, ParsedFile], words: str) -> Place:
    text, index, _ = found
    assert index is not None
    return index.place(text.index(words))


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp1252"]
)
def test_text_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = "Grüße aus Köln, the weather is fine.\n" * 4

    found, _, parsed = read(tmp_path, "letter.txt", text.encode(encoding))

    assert found.removeprefix("\ufeff") == text
    assert parsed.media_type == "text/plain"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimited_text_becomes_a_table(tmp_path: Path, delimiter: str) -> None:
    rows = [["name", "note"], ["Ann", "a|b" if delimiter != "|" else "ab"], ["Bo", "two\nlines"]]
    data = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)

    found, _, _ = read(tmp_path, "people.csv", data.encode())

    note = "a\\|b" if delimiter != "|" else "ab"
    assert found == f"| name | note |\n| --- | --- |\n| Ann | {note} |\n| Bo | two lines |\n"


def test_json_reads_as_its_values(tmp_path: Path) -> None:
    data = rb'[{"name": "Stra\u00dfe", "tags": ["a", "b"], "size": {"w": 1.5, "h": null}}, {"name": "x"}]'

    found, _, parsed = read(tmp_path, "a.bin", data)

    assert found == "name: Straße\ntags: a, b\nsize:\n  w: 1.5\n  h: null\n\nname: x\n\n"
    assert parsed.media_type == "application/json"


def test_a_record_may_hold_what_ends_a_line_elsewhere(tmp_path: Path) -> None:
    data = '{"a": "one\u2028two"}\r\n{"a": "three\x85four"}\n'

    found, _, parsed = read(tmp_path, "a.ndjson", data.encode())

    assert parsed.media_type == "application/x-ndjson"
    assert found == "a: one\u2028two\n\na: three\x85four\n\n"


@pytest.mark.parametrize(
    ("data", "name", "media_type"),
    [
        (b"<!-- note -->\n" * 200 + b"# Title\n\nWords.", "a.md", "text/markdown"),
        (b"<!-- note -->\n" * 200 + b"<html><body>Words.</body></html>", "a.txt", "text/html"),
        (b"From " + b"a" * 60_000 + b" on.", "a.txt", "text/plain"),
        (b"From " + b"00:00 " * 10_000, "a.txt", "text/plain"),
    ],
)
def test_a_type_is_told_in_the_time_that_reading_takes(tmp_path: Path, data: bytes, name: str, media_type: str) -> None:
    """Some of these took minutes, or longer than anybody lives."""
    assert read(tmp_path, name, data)[2].media_type == media_type


def test_a_long_line_of_numbers_is_looked_at_once() -> None:
    assert not may_have_table("1 " * 40_000 + "x\n")
    assert may_have_table("Sold 1 2\nBought 3 (4)\nKept $5 60%  \n")
    assert not may_have_table("Sold in 1\n2 bought\nKept 5 here\n")


@pytest.mark.parametrize("data", [b'{"cut off": [1, 2', b"[" * 100_000])
def test_what_only_begins_like_json_is_text(tmp_path: Path, data: bytes) -> None:
    found, _, parsed = read(tmp_path, "a.json", data)

    assert found == data.decode()
    assert (parsed.media_type, parsed.text_is_raw) == ("text/plain", True)


def mail(subject: str, body: str, *attachments: tuple[str, bytes]) -> bytes:
    message = email.message.EmailMessage()
    message["Subject"], message["From"], message["Date"] = (
        subject,
        "Ann <ann@example.com>",
        "Tue, 1 Oct 2024 12:34:56 -0500",
    )
    message.set_content(body)
    for name, data in attachments:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


def test_a_mail_brings_its_attachments(tmp_path: Path) -> None:
    data = mail(
        "Hello", "See the list.", ("list.csv", b"a,b\n1,2\n"), ("inner.zip", zipped(("x/deep.txt", b"Deep words")))
    )

    found = read(tmp_path, "m.eml", data)

    assert "See the list." in found[0]
    assert place(found, "| 1 | 2 |").member == "list.csv"
    assert place(found, "Deep words").member == "inner.zip/x/deep.txt"
    assert found[2].found["title"] == "Hello"
    assert found[2].found["created"] == "2024-10-01T12:34:56-05:00"


def test_an_attachment_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    found, _, _ = read(tmp_path, "m.eml", mail("Hello", "Body.", ("broken.docx", b"PK\x03\x04broken word/ _rels/")))

    assert "Body." in found
    assert "broken.docx (not read: " in found


def test_a_mailbox_numbers_its_messages(tmp_path: Path) -> None:
    separator = b"From ann@example.com Tue Oct  1 12:34:56 2024\n"
    data = b"\n\n".join(separator + mail(f"Nr {n}", f"Body {n}\n\n>From here on") for n in (1, 2, 3))

    found = read(tmp_path, "mail", data)

    assert found[2].media_type == "application/mbox"
    assert [place(found, f"Body {n}").message for n in (1, 2, 3)] == [1, 2, 3]
    assert found[2].found["messages"] == 3


def tarred(*members: tuple[str, bytes], link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        if link:
            entry = tarfile.TarInfo("link")
            entry.type, entry.linkname = tarfile.SYMTYPE, link
            archive.addfile(entry)
    return buffer.getvalue()


def unpacked(parsed: ParsedFile) -> dict[str, bytes]:
    return {member.name: Path(member.path).read_bytes() for member in parsed.members}


def test_an_archive_is_taken_apart_and_says_what_it_holds(tmp_path: Path) -> None:
    inner = zipped(("code.py", b"def f():\n    pass\n"), ("../up.txt", b"x"))
    members = (
        ("./docs/a.md", b"# Title"),
        ("b.zip", inner),
        ("c.bin", b"\0\1\2"),
        (".hidden/x", b"x"),
        ("docs/a.md", b"Later"),
    )

    text, _, parsed = read(tmp_path, "all.tgz", tarred(*members, link="/etc/passwd"))

    assert unpacked(parsed) == {"docs/a.md": b"Later", "b.zip/code.py": b"def f():\n    pass\n", "c.bin": b"\0\1\2"}
    assert [member.sha256 for member in parsed.members] == [
        hashlib.sha256(data).hexdigest() for data in unpacked(parsed).values()
    ]
    assert all(Path(member.path).parent == tmp_path / "members" for member in parsed.members)
    assert text == (
        "all.tgz is an archive of 3 files, each a document of its own.\n\nNot read:\n"
        "- b.zip/../up.txt (not read: its name points outside the archive)\n- link (not read: it is a link or a device)\n\n"
        "Files:\n- docs/a.md\n- b.zip/code.py\n- c.bin\n"
    )
    assert parsed.found == {"members": 3, "members_not_read": 2}


def test_a_packed_file_is_read_as_what_it_packs(tmp_path: Path) -> None:
    found = read(tmp_path, "notes.txt.gz", gzip.compress(b"Words in a packed file."))

    assert "Words in a packed file." in found[0]
    assert place(found, "Words").member == "notes.txt"
    assert found[2].members == ()


def nested(levels: int) -> bytes:
    data = zipped(("a.txt", b"words"))
    for _ in range(levels):
        data = zipped(("a.zip", data))
    return data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zipped(*((f"{n}.txt", b"x") for n in range(30))), "more than 20 files"),
        (zipped(("zeros.txt", b"a" * 17_000_000)), "unpacks to more than"),
        (zipped(("../../evil.txt", b"x")), "points outside"),
        (zipped(("/etc/evil.txt", b"x")), "points outside"),
        (zipped(("C:\\evil.txt", b"x")), "points outside"),
        (nested(5), "archives deep"),
        (zipped((".hidden", b"x")), "holds no files"),
        (zipped(("a" * 600 + ".txt", b"x")), "name is longer"),
        (zipped(("a.txt", b"hello"))[:-30], "damaged"),
    ],
)
def test_archives_are_limited(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(tmp_path, "a.zip", data)


def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(Unavailable, match="no room to unpack the archive: File too large"):
            read(tmp_path, "a.zip", zipped(("a.txt", b"x" * (1 << 21))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_text_of_a_packed_file_is_limited_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than 100 bytes in UTF-8"):
        read(tmp_path, "a.txt.gz", gzip.compress(b"x" * 200), ReadLimits(max_text_bytes=100))
