"""The sections of Markdown text: where headings stand and what lies below them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_HEADING_CHARACTERS = 200

_MARKS = re.compile(r"^(?:(?P<fence>```|~~~)|(?P<level>#{1,6})[ \t]+(?P<title>[^\n]*?)[ \t#]*$)", re.MULTILINE)
_EMPHASIS = re.compile(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")


@dataclass(frozen=True)
class Section:
    """A heading with the text below it, up to the next heading: `text[start:end]`.

    `level` is 1 to 6, or 0 for text before the first heading. `above` are the headings above the section, outermost first,
    and `path` the same with its own.
    """

    start: int
    end: int
    level: int
    above: tuple[str, ...]
    path: tuple[str, ...]


class Outline:
    """The headings that a reader has passed, kept from one block of a text to the next."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, str]] = []
        self._fence = ""

    def sections(self, block: str) -> Iterator[Section]:
        """The sections of the next block; together they cover it."""
        start, level, above, path = 0, 0, self._titles(), self._titles()
        for mark in _MARKS.finditer(block):
            if mark["fence"]:
                self._pass_fence(mark["fence"])
            elif not self._fence and mark["title"]:
                if mark.start() > start:
                    yield Section(start, mark.start(), level, above, path)
                start, level = mark.start(), len(mark["level"])
                above, path = self._enter(level, mark["title"])
        if start < len(block):
            yield Section(start, len(block), level, above, path)

    def _enter(self, level: int, title: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        above = self._titles()
        self._stack.append((level, _EMPHASIS.sub("", title)[:MAX_HEADING_CHARACTERS].strip()))
        return above, self._titles()

    def _pass_fence(self, fence: str) -> None:
        if not self._fence:
            self._fence = fence
        elif fence == self._fence:
            self._fence = ""

    def _titles(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._stack if title)
