"""Documents through kreuzberg: PDF with pages, slides, and everything that has headings as Markdown."""

import re
import secrets
from typing import Any

from kreuzberg import ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync

from ingest.documents import Metadata
from ingest.parsers import media_types
from ingest.parsers.parsing import Extracted
from mesh.errors import InvalidInput

PAGE_BREAK = "\n\n"
MAX_FOUND_CHARACTERS = 500

_FRONT_MATTER = re.compile(r"\A---\n(?:[^\n]*\n){0,60}?\n## title: [^\n]*\n+")
_IMAGE = re.compile(r"!\[([^\]\n]*)\]\((?:<[^>\n]*>|[^()\n]*)\)")
_LINK = re.compile(r"\[([^\[\]\n]*)\]\((?:<[^>\n]*>|[^()\s]*)(?:[ \t]+\"[^\"\n]*\")?\)")


def extract(data: bytes, media_type: str) -> Extracted:
    """Reads a document. InvalidInput when it is damaged, encrypted, over kreuzberg's limits or without text."""
    marker = f"\u2063{secrets.token_hex(8)}:"
    config = _config(media_type, marker)
    try:
        result = extract_bytes_sync(data, media_type, config=config)
    except KreuzbergError as error:
        raise InvalidInput(_explain(str(error), media_type)) from error
    found = _found(result.metadata)
    if media_type == media_types.PDF:
        pages = [_unified(page["content"]) for page in result.pages or []]
    elif media_type in (media_types.PPTX, media_types.PPT):
        pages = _split_at_markers(result.content, marker)
    else:
        pages = []
    text = PAGE_BREAK.join(pages) if pages else _cleaned(result.content, media_type)
    if not text.strip():
        raise InvalidInput("The document holds no text. If its pages are images, they must be recognised (OCR) first.")
    return Extracted(text, _starts(pages), found)


def _config(media_type: str, marker: str) -> ExtractionConfig:
    paged = media_type in (media_types.PDF, media_types.PPTX, media_types.PPT)
    pages = PageConfig(
        extract_pages=media_type == media_types.PDF,
        insert_page_markers=paged and media_type != media_types.PDF,
        marker_format=f"\n\n{marker}{{page_num}}\n\n",
    )
    return ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="plain" if media_type == media_types.PDF else "markdown",
        pages=pages if paged else None,
    )


def _split_at_markers(content: str, marker: str) -> list[str]:
    """Slides. What stands before the first marker belongs to the first."""
    parts = re.split(rf"\s*{re.escape(marker)}\d+\s*", content)
    if not parts[0].strip():
        parts = parts[1:]
    return [_unified(part).strip() for part in parts]


def _starts(pages: list[str]) -> list[int]:
    starts, at = [], 0
    for page in pages:
        starts.append(at)
        at += len(page) + len(PAGE_BREAK)
    return starts


def _unified(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _cleaned(text: str, media_type: str) -> str:
    """Without targets of links and images: they are noise to a reader and to an embedder."""
    text = _unified(text)
    if media_type == media_types.HTML:
        text = _FRONT_MATTER.sub("", text)
    if media_type in (media_types.HTML, media_types.EPUB, media_types.DOCX):
        text = _LINK.sub(r"\1", _IMAGE.sub(r"\1", text)).replace("¶", "")
    return text


def _found(metadata: Any) -> Metadata:
    """Title, authors, dates and language, where the file names them."""
    found: Metadata = {}
    for key, name in (("title", "title"), ("subject", "subject"), ("language", "language"), ("created_at", "created")):
        value = metadata.get(key)
        if isinstance(value, str) and value.strip():
            found[name] = value.strip()[:MAX_FOUND_CHARACTERS]
    authors = metadata.get("authors")
    if isinstance(authors, list) and authors:
        found["authors"] = [str(author)[:MAX_FOUND_CHARACTERS] for author in authors[:20]]
    return found


def _explain(message: str, media_type: str) -> str:
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
