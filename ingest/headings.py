"""The sections of a text: where headings stand and what lies below them.

Markdown, bookmarks of PDF, reStructuredText and plain text with underlined titles, Org, and source code, whose headings
are the names of its classes and functions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_HEADING_CHARACTERS = 200

_MARKS = re.compile(r"^(?:(?P<fence>```|~~~)|(?P<level>#{1,6})[ \t]+(?P<title>[^\n]*?)[ \t#]*$)", re.MULTILINE)
_BOOKMARKS = re.compile(r"^(?P<level>#{2,6}) (?P<title>[^\n]*\S)[ \t]*$", re.MULTILINE)
_STARS = re.compile(r"^(?P<level>\*{1,6})[ \t]+(?P<title>[^\n]*?)[ \t]*$", re.MULTILINE)
_EMPHASIS = re.compile(r"[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")
_UNDERLINED = re.compile(
    r"(?:\A|(?<=\n))(?:[ \t]*\n|\A)(?P<start>(?P<over>(?P<top>[=\-*~^\"'`+#])(?P=top){2,}[ \t]*\n)?"
    r"[ ]?(?P<title>\S[^\n]{0,199}?)[ \t]*\n(?P<under>(?P<mark>[=\-*~^\"'`+#.])(?P=mark){2,})[ \t]*(?:\n|\Z))"
)
_DEFINITION = re.compile(
    r"^(?P<indent>[ \t]*)(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe|extern"
    r"|inline|virtual|override|sealed|open|data|suspend|partial|local|declare|const|constexpr|pub(?:\([^)\n]*\))?)[ \t]+)*"
    r"(?:(?:class|def|defmodule|defp|func|fn|fun|function|interface|struct|enum|trait|impl|mod|module|namespace|object"
    r"|record|protocol|extension|message|service|contract|library|sub|type)\b[ \t]*(?:\([^)\n]*\)[ \t]*|<[^>\n]*>[ \t]*)?"
    r"(?P<name>[A-Za-z_$][\w$.:]*)"
    r"|(?!(?:if|for|while|switch|catch|else|return|do|try|new|case|with|foreach|using|lock)\b)"
    r"(?:[\w:<>,\[\]~]+[ \t*&]+){1,6}(?P<method>~?[A-Za-z_][\w:]*)[ \t]*\([^;{}()\n]*\)[^;{}()\n]*\{[ \t]*$)",
    re.MULTILINE,
)
_ABOVE = ("@", "#", "//", "/*", "*", "--", "[<", "#[", "%%")
"""How lines begin that belong to the definition below them: comments, decorators, attributes."""


@dataclass(frozen=True)
class Section:
    """A heading with the text below it, up to the next heading: `text[start:end]`.

    `level` is 1 and up, or 0 for text before the first heading. `above` are the headings above the section, outermost first,
    and `path` the same with its own.
    """

    start: int
    end: int
    level: int
    above: tuple[str, ...]
    path: tuple[str, ...]


class Outline:
    """The headings that a reader has passed, kept from one block of a text to the next. Of Markdown."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, str]] = []
        self._fence = ""

    def sections(self, block: str) -> Iterator[Section]:
        """The sections of the next block; together they cover it."""
        start, level, above, path = 0, 0, self._titles(), self._titles()
        for at, mark_level, title in self._headings(block):
            if at > start:
                yield Section(start, at, level, above, path)
            start, level = at, mark_level
            above, path = self._enter(mark_level, title)
        if start < len(block):
            yield Section(start, len(block), level, above, path)

    def _headings(self, block: str) -> Iterator[tuple[int, int, str]]:
        """Where each heading begins, its level and its title."""
        for mark in _MARKS.finditer(block):
            if mark["fence"]:
                self._pass_fence(mark["fence"])
            elif not self._fence and mark["title"]:
                yield mark.start(), len(mark["level"]), _EMPHASIS.sub("", mark["title"])

    def _enter(self, level: int, title: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        above = self._titles()
        self._stack.append((level, title[:MAX_HEADING_CHARACTERS].strip()))
        return above, self._titles()

    def _pass_fence(self, fence: str) -> None:
        if not self._fence:
            self._fence = fence
        elif fence == self._fence:
            self._fence = ""

    def _titles(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._stack if title)


class BookmarkOutline(Outline):
    """Of PDF, whose bookmarks are marked from the second level on; one `#` is a line of a listing."""

    def _headings(self, block: str) -> Iterator[tuple[int, int, str]]:
        for mark in _BOOKMARKS.finditer(block):
            yield mark.start(), len(mark["level"]), mark["title"]


class OrgOutline(Outline):
    """Of Org: a heading begins with stars."""

    def _headings(self, block: str) -> Iterator[tuple[int, int, str]]:
        for mark in _STARS.finditer(block):
            if mark["title"]:
                yield mark.start(), len(mark["level"]), mark["title"]


class UnderlinedOutline(Outline):
    """Of reStructuredText, and of plain text that its writers or tools have set like it.

    A title is a line after an empty one with a line of one sign below it, as long as itself; levels go by the order in which
    the signs come first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._signs: list[tuple[bool, str]] = []

    def _headings(self, block: str) -> Iterator[tuple[int, int, str]]:
        for mark in _UNDERLINED.finditer(block):
            if abs(len(mark["under"]) - len(mark["title"])) > 2 or (mark["over"] and mark["top"] != mark["mark"]):
                continue
            sign = (bool(mark["over"]), mark["mark"])
            if sign not in self._signs:
                self._signs.append(sign)
            yield mark.start("start"), self._signs.index(sign) + 1, mark["title"]


class CodeOutline(Outline):
    """Of source code: what is defined, below what it is defined in, told by indentation. Comments above belong to it."""

    def _headings(self, block: str) -> Iterator[tuple[int, int, str]]:
        before = 0
        for mark in _DEFINITION.finditer(block):
            at = _with_lines_above(block, mark.start(), before)
            before = mark.end()
            indent = len(mark["indent"].expandtabs(4))
            yield at, indent + 1, (mark["name"] or mark["method"]).rstrip(".:")


def _with_lines_above(block: str, at: int, limit: int) -> int:
    """Where the comments and decorators begin that stand right above a line."""
    while at > limit:
        start = block.rfind("\n", limit, at - 1) + 1 or limit
        if start >= at or start < limit or not block[start:at].lstrip().startswith(_ABOVE):
            break
        at = start
    return at
