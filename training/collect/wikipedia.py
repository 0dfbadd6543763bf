"""Wikipedia and other MediaWiki sites from their XML dumps (`pages-articles`), plain or bz2, from a file or a URL, streamed.

A dump is read once, from the beginning, in bounded memory; going on after an interruption reads over the pages that are done
without parsing their text.
"""

import bz2
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from mesh.errors import Corrupt, InvalidInput
from training.collect.collectors import Found, Position
from training.collect.inputs import Input
from training.collect.wikitext import Namespaces, is_redirect, plain_text
from training.parallel import ordered_map
from training.records import Record

LICENCE = "CC-BY-SA-4.0"
"""Of all Wikipedia's texts since June 2023; dumps of before were CC-BY-SA-3.0, whose texts may be used under 4.0 too."""
MAX_WIKITEXT_CHARACTERS = 4_000_000
MIN_TEXT_CHARACTERS = 100
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_HIDDEN_KEYS = ("-2", "6", "14")
_UNPACKED_RATIO = 4
_BZ2_END = 0x177245385090
_TAIL = re.compile(rb"</mediawiki>\s*\Z")


@dataclass(frozen=True)
class Site:
    """What the beginning of a dump says."""

    base: str = ""
    language: str = ""
    namespaces: Namespaces = field(default_factory=Namespaces)


@dataclass(frozen=True)
class Page:
    """An article as the dump has it. `number` counts pages of the dump from 1, `read_bytes` how far the file was read."""

    number: int
    id: str
    title: str
    namespace: str
    redirects: bool
    date: str
    revision: str
    wikitext: str
    read_bytes: int


class WikipediaDump:
    """A dump as a collector."""

    name = "wikipedia"

    def __init__(self, dump: Input, *, workers: int = 1, licence: str = LICENCE) -> None:
        self._dump, self._workers, self._licence = dump, workers, licence

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"dump": self._dump.name, "size_bytes": self._dump.size_bytes, "licence": self._licence}

    @property
    def total(self) -> int | None:
        return self._dump.size_bytes

    def check(self) -> int:
        """Corrupt for a file that is cut off, as far as its end shows that."""
        if self._dump.path is not None:
            _check_end(self._dump.path)
        return (self._dump.size_bytes or 0) // (1 if self._dump.name.endswith(".bz2") else _UNPACKED_RATIO)

    def find(self, after: Position) -> Iterator[Found]:
        start = after if isinstance(after, int) else 0
        with self._dump.open() as raw:
            site, pages = read_pages(raw, self._dump.name, start)
            work = partial(to_found, site=site, licence=self._licence)
            yield from ordered_map(work, pages, self._workers)


def to_found(page: Page, site: Site, licence: str) -> Found:
    """A page's record, or why it has none."""
    dropped, text = _dropped(page), ""
    if not dropped:
        try:
            text = plain_text(page.wikitext, site.namespaces)
        except ValueError:
            dropped = "cannot be parsed"
    if not dropped and len(text) < MIN_TEXT_CHARACTERS:
        dropped = "too short"
    if dropped:
        return Found(page.number, dropped=dropped, done=page.read_bytes)
    title = page.title.replace(" ", "_")
    source = f"{site.base}/{quote(title, safe='/:()_,')}" if site.base else page.title
    record = Record(
        f"wikipedia/{site.language or 'unknown'}/{page.id}", f"{page.title}\n\n{text}", source, licence, page.date,
        {"title": page.title, "language": site.language, "revision": page.revision},
    )  # fmt: skip
    return Found(page.number, record, done=page.read_bytes)


def read_pages(raw: BufferedReader, name: str, start: int) -> tuple[Site, Iterator[Page]]:
    """What the dump is of, and its pages after the first `start`. Corrupt for broken XML or bz2."""
    events = _events(raw, name)
    root = _root(events, name)
    return _site(events, root, name), _pages(events, root, raw, start)


def _events(raw: BufferedReader, name: str) -> Iterator[tuple[str, Element]]:
    stream = bz2.BZ2File(raw) if raw.peek(3)[:3] == b"BZh" else raw
    try:
        yield from ElementTree.iterparse(stream, events=("start", "end"), forbid_dtd=True)
    except ParseError as error:
        raise Corrupt(
            f"{name} is broken XML at line {error.position[0]}: {error}. What stood before it was collected; fetch it again."
        ) from error
    except DefusedXmlException as error:
        raise InvalidInput(f"{name} declares entities or a DTD, which no dump does; it is not read.") from error
    except (EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Corrupt(
            f"{name} is truncated or damaged: {error}. What stood before was collected; fetch it again."
        ) from error


def _root(events: Iterator[tuple[str, Element]], name: str) -> Element:
    _, root = next(events)
    if _local(root) != "mediawiki":
        raise InvalidInput(f"{name} is not a MediaWiki dump: it begins with <{_local(root)}>, not with <mediawiki>.")
    return root


def _site(events: Iterator[tuple[str, Element]], root: Element, name: str) -> Site:
    """Reads up to the end of `siteinfo`."""
    base, hidden = "", set(Namespaces().hidden)
    for event, element in events:
        tag = _local(element)
        if (event, tag) == ("start", "page"):
            raise InvalidInput(f"{name} has no <siteinfo> before its pages; it is not a whole MediaWiki dump.")
        if event == "start":
            continue
        if tag == "base":
            base = (element.text or "").rpartition("/")[0]
        elif tag == "namespace" and element.get("key") in _HIDDEN_KEYS:
            hidden.add((element.text or "").lower())
        elif tag == "siteinfo":
            break
    return Site(base, root.get(_LANGUAGE, ""), Namespaces(frozenset(hidden - {""})))


def _pages(events: Iterator[tuple[str, Element]], root: Element, raw: BufferedReader, start: int) -> Iterator[Page]:
    """Each page is forgotten when the next one is asked for."""
    number = 0
    for event, element in events:
        if event != "end" or _local(element) != "page":
            continue
        number += 1
        if number > start:
            yield _page(element, number, raw.tell())
        root.clear()


def _page(element: Element, number: int, read_bytes: int) -> Page:
    fields = {_local(child): child for child in element}
    revision = {_local(child): child.text or "" for child in fields.get("revision", Element("none"))}
    text = {name: each.text or "" for name, each in fields.items()}
    wikitext = revision.get("text", "")
    return Page(
        number, text.get("id", ""), text.get("title", ""), text.get("ns", "0"),
        "redirect" in fields or is_redirect(wikitext), revision.get("timestamp", ""), revision.get("id", ""), wikitext,
        read_bytes,
    )  # fmt: skip


def _dropped(page: Page) -> str:
    if page.namespace != "0":
        return "not an article"
    if page.redirects:
        return "redirect"
    if not page.wikitext.strip():
        return "no text"
    return "too long" if len(page.wikitext) > MAX_WIKITEXT_CHARACTERS else ""


def _check_end(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise Corrupt(f"{path} is empty.")
    with path.open("rb") as file:
        packed = file.read(3) == b"BZh"
        file.seek(max(0, size - 64))
        tail = file.read()
    whole = _ends_bz2(tail) if packed else _TAIL.search(tail) is not None
    if not whole:
        raise Corrupt(f"{path} is truncated: its end is missing. Fetch it again.")


def _ends_bz2(tail: bytes) -> bool:
    """Whether the last bits are the mark of a stream's end, its checksum, and less than a byte of padding."""
    bits = int.from_bytes(tail, "big")
    return any(bits >> padding + 32 & (1 << 48) - 1 == _BZ2_END for padding in range(8))


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]
