"""Where words and images stand on the pages of a PDF, and its bookmarks, by pdf_oxide.

What pdf_oxide cannot read has no layout; that is no error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import pdf_oxide

MAX_BOOKMARKS = 20_000
MAX_LEVELS = 8
MAX_TITLE_CHARACTERS = 200

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its box in points, `top` being the distance of its middle from an edge that lines are ordered by."""

    text: str
    left: float
    right: float
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Bookmark:
    """An entry of the document's outline: its level from 1, and the page that it leads to, from 0."""

    level: int
    title: str
    page: int


class Layout:
    """The layout of one document, opened when it is first asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @cached_property
    def _document(self) -> "pdf_oxide.PdfDocument | None":
        pdf_oxide.disable_logging()
        return _tolerant(lambda: pdf_oxide.PdfDocument.from_bytes(self._data), None)

    def words(self, page: int) -> list[Word]:
        """The words of a page, counted from 0."""
        document = self._document
        found = _tolerant(lambda: document.extract_words(page), []) if document else []
        return [_word(word.text, *word.bbox) for word in found if word.text.strip()]

    def has_image(self, page: int) -> bool:
        """Whether a page has an image, or may have one."""
        document = self._document
        return bool(_tolerant(lambda: document.page_images(page), [True])) if document else True

    def bookmarks(self) -> dict[int, list[Bookmark]]:
        """The bookmarks in their order, by page."""
        document = self._document
        found = (
            _tolerant(lambda: list(islice(_flattened(document.get_outline(), 1), MAX_BOOKMARKS)), [])
            if document
            else []
        )
        by_page: dict[int, list[Bookmark]] = {}
        for bookmark in found:
            by_page.setdefault(bookmark.page, []).append(bookmark)
        return by_page


def _flattened(entries: Any, level: int) -> Iterator[Bookmark]:
    for entry in entries or []:
        title, page = entry.get("title"), entry.get("page")
        if isinstance(title, str) and isinstance(page, int) and title.strip():
            yield Bookmark(level, title.strip()[:MAX_TITLE_CHARACTERS], page)
        if level < MAX_LEVELS:
            yield from _flattened(entry.get("children"), level + 1)


def _word(text: str, left: float, bottom: float, width: float, height: float) -> Word:
    return Word(text.strip(), left, left + width, -(bottom + height / 2), height)


def _tolerant(call: Callable[[], Result], otherwise: Result) -> Result:
    """A library in Rust ends a damaged file with an error or with a panic, which is no Exception."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:
        return otherwise
