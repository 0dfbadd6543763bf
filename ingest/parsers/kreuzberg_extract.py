"""Documents through kreuzberg, with headings as Markdown: Office, OpenDocument, EPUB, HTML, XML, RTF, Outlook's mail."""

import html
import re
import secrets
from typing import Any

from kreuzberg import ExtractionConfig, ExtractionResult, KreuzbergError, PageConfig, extract_bytes_sync

from ingest.documents import Metadata
from ingest.parsers import media_types, text_types
from ingest.parsers.encodings import decoded_head, find_encoding
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import Source
from ingest.places import Place
from mesh.errors import InvalidInput

SLIDE_BREAK = "\n\n"
MAX_FOUND_CHARACTERS = 500
MIN_MAIN_SHARE = 0.3
"""Menus rarely are more than two thirds of a page; where so much would go, the page's marks mislead and all is kept."""

_FRONT_MATTER = re.compile(r"\A---\n(?:[^\n]*\n){0,60}?\n## title: [^\n]*\n+")
_IMAGE = re.compile(r"!\[([^\]\n]*)\]\((?:<[^>\n]*>|[^()\n]*)\)")
_LINK = re.compile(r"\[([^\[\]\n]*)\]\((?:<[^>\n]*>|[^()\s]*)(?:[ \t]+\"[^\"\n]*\")?\)")
_ESCAPED = re.compile(r"\\([!\"$%&'()*+,./:;<=>?@\[\]^_`{}~-])")
_RULE = re.compile(r"\A\s*-{5,}\s*\n")
_SHEET = re.compile(r"^## ([^\n]*)\n", re.MULTILINE)
_DECLARED = re.compile(rb"\A\s*<\?xml[^>]*\?>")
_MAIN_TEXT = {
    "preprocessing": {"enabled": True, "preset": "aggressive", "remove_navigation": True, "remove_forms": False}
}


def read(source: Source, output: TextOutput) -> Metadata:
    """Reads a document. InvalidInput when it is damaged, encrypted or over kreuzberg's limits."""
    if source.media_type in media_types.SLIDES:
        return _read_slides(source, output)
    result = (
        _main_text(_in_utf8(source))
        if source.media_type == text_types.HTML
        else _extract(_in_utf8(source), source.media_type)
    )
    text = _cleaned(result.content, source.media_type)
    if source.media_type in media_types.SHEETS:
        _write_sheets(text, output)
    else:
        output.write(text)
    return found_in(result.metadata)


def extract_text(data: bytes, media_type: str) -> str:
    """The text of a small document, such as a mail's body."""
    return _cleaned(_extract(data, media_type).content, media_type)


def extract_with_children(data: bytes, media_type: str) -> tuple[str, Metadata, list[tuple[str, str]]]:
    """The text, what was found, and the name and text of each document within."""
    result = _extract(data, media_type)
    children = [
        (child["path"], _cleaned(child["result"].content, child["mime_type"]))
        for child in getattr(result, "children", None) or []
    ]
    return _cleaned(result.content, media_type), found_in(result.metadata), children


def _extract(data: bytes, media_type: str, **options: Any) -> ExtractionResult:
    config = ExtractionConfig(
        use_cache=False, enable_quality_processing=False, output_format="markdown", **options
    )  # fmt: skip
    try:
        return extract_bytes_sync(data, media_type, config=config)
    except KreuzbergError as error:
        raise InvalidInput(explain(str(error), media_type)) from error


def _in_utf8(source: Source) -> bytes:
    """The content for a parser; text formats in UTF-8, whatever they were in and say that they are in."""
    data = source.data()
    if source.media_type == text_types.HTML:
        encoding = find_encoding(source.path)
        return data if encoding == "utf-8" else data.decode(encoding, "replace").encode("utf-8", "replace")
    if source.media_type == text_types.XML:
        decoded = decoded_head(data)
        return (
            decoded
            if decoded is data
            else _DECLARED.sub(b"<?xml version='1.0'?>", decoded.removeprefix(b"\xef\xbb\xbf"))
        )
    return data


def _main_text(data: bytes) -> ExtractionResult:
    """Without menus, headers and footers, unless that would leave too little."""
    main = _extract(data, text_types.HTML, html_options=_MAIN_TEXT)
    whole = _extract(data, text_types.HTML)
    return main if len(main.content) >= MIN_MAIN_SHARE * len(whole.content) else whole


def _read_slides(source: Source, output: TextOutput) -> Metadata:
    marker = f"\u2063{secrets.token_hex(8)}:"
    pages = PageConfig(insert_page_markers=True, marker_format=f"\n\n{marker}{{page_num}}\n\n")
    result = _extract(source.data(), source.media_type, pages=pages)
    slides = re.split(rf"\s*{re.escape(marker)}\d+\s*", result.content)
    if not slides[0].strip() and len(slides) > 1:  # what stands before the first mark belongs to the first slide
        slides = slides[1:]
    for number, slide in enumerate(slides, 1):
        output.begin(Place(page=number, slide=number))
        output.write(_RULE.sub("", _cleaned(slide, source.media_type)).strip() + SLIDE_BREAK)
    return found_in(result.metadata)


def _write_sheets(text: str, output: TextOutput) -> None:
    """A sheet is a section with its name as heading."""
    starts = [(match.start(), match[1].strip()) for match in _SHEET.finditer(text)]
    output.write(text[: starts[0][0]] if starts else text)
    for (start, name), (end, _) in zip(starts, [*starts[1:], (len(text), "")], strict=False):
        output.begin(Place(sheet=name))
        output.write(text[start:end])


def unified(text: str) -> str:
    """With one kind of line end and without zeros."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _cleaned(text: str, media_type: str) -> str:
    """Without targets of links and images and without escapes: they are noise to a reader and to an embedder."""
    text = unified(text)
    if media_type == text_types.HTML:
        text = _FRONT_MATTER.sub("", text)
    if media_type in (text_types.HTML, media_types.EPUB, media_types.DOCX):
        text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", text)).replace("¶", "")
    return _ESCAPED.sub(r"\1", text)


def found_in(metadata: Any) -> Metadata:
    """Title, authors, dates and language, where the file names them."""
    found: Metadata = {}
    for key, name in (("title", "title"), ("subject", "subject"), ("language", "language"), ("created_at", "created")):
        value = metadata.get(key)
        if isinstance(value, str) and value.strip():
            found[name] = html.unescape(value.strip())[:MAX_FOUND_CHARACTERS]
    authors = metadata.get("authors")
    if isinstance(authors, list) and authors:
        found["authors"] = [str(author)[:MAX_FOUND_CHARACTERS] for author in authors[:20]]
    return found


def explain(message: str, media_type: str) -> str:
    """Kreuzberg's reason in a sentence, without its chain of prefixes."""
    if "password" in message.lower() or "encrypt" in message.lower():
        return "The document is encrypted. Remove its password and upload it again."
    if "security limit" in message.lower() or "bomb" in message.lower():
        return "The document unpacks to more than is allowed; it was not read."
    parts = [part.strip() for part in message.split(": ") if part.strip()]
    reason = ": ".join(dict.fromkeys(parts[1:] or parts))[:300]
    return (
        f"The content is {media_type}, but it cannot be read; it may be damaged or cut off. The parser says: {reason}"
    )
