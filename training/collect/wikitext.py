"""Wikitext to plain text: what a reader of the article's prose sees. Parsed by mwparserfromhell.

Templates, tables, references, images, categories and the lists of sources at the end are left out; of a few templates that
stand for words (`lang`, `convert`, `nowrap`, …) the words stay. Formulas stay as LaTeX between dollar signs.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Node, Tag, Template, Text, Wikilink
from mwparserfromhell.parser import ParserError
from mwparserfromhell.wikicode import Wikicode

_DROPPED_TAGS = frozenset(
    {
        "ref", "references", "table", "gallery", "timeline", "imagemap", "graph", "score", "hiero", "templatedata",
        "categorytree", "inputbox", "section", "syntaxhighlight", "source", "style", "script", "noinclude",
    }
)  # fmt: skip
_BULLETS = {"*": "- ", "#": "- "}
_BLOCK_TAGS = frozenset({"p", "div", "center", "blockquote", "br", "hr", "tr", "li", "ul", "ol", "dl", "dt", "dd"})
_APPENDICES = frozenset(
    {
        "references", "external links", "see also", "further reading", "notes", "bibliography", "sources", "footnotes",
        "citations", "works cited", "notes and references", "references and notes",
        "einzelnachweise", "weblinks", "siehe auch", "literatur", "quellen", "anmerkungen", "fußnoten",
        "referencias", "enlaces externos", "véase también", "bibliografía", "notas",
        "références", "liens externes", "voir aussi", "bibliographie", "notes et références", "articles connexes",
    }
)  # fmt: skip
_SPACES = {"nbsp": " ", "spaces": " ", "snd": " – ", "spnd": " – ", "spaced ndash": " – ", "ndash": "–", "mdash": "—"}
_LAST_PARAMETER = frozenset(
    {
        "lang",
        "nowrap",
        "nobr",
        "small",
        "smaller",
        "big",
        "em",
        "strong",
        "tooltip",
        "abbr",
        "transl",
        "smallcaps",
        "sc",
    }
)
_FIRST_PARAMETER = frozenset(
    {"nowrap", "nobr", "small", "smaller", "big", "em", "strong", "tooltip", "abbr", "smallcaps"}
)
_QUOTES = re.compile(r"'{2,5}")
_MAGIC = re.compile(r"__[A-Z]+__")
_EMPTY_BRACKETS = re.compile(r" ?[(\[][\s,;:–-]*[)\]]")
_BEFORE_COMMA = re.compile(r"([(\[])[\s,;]+|\s+([,;.)\]])")
_BLANKS = re.compile(r"[ \t\u00a0]+")
_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(?:-[a-z-]+)?")


@dataclass(frozen=True)
class Namespaces:
    """Prefixes of links that show no words in the prose, in lower case: files, media and categories, in the wiki's language
    and in English.
    """

    hidden: frozenset[str] = frozenset({"file", "image", "media", "category"})

    def hides(self, title: str) -> bool:
        """Whether a link's target is a file, a category or the article in another language."""
        prefix, colon, _ = title.partition(":")
        prefix = prefix.strip().lower()
        return bool(colon) and (prefix in self.hidden or _LANGUAGE_LINK.fullmatch(prefix) is not None)


def is_redirect(wikitext: str) -> bool:
    """Whether an article only points to another one."""
    return wikitext.lstrip()[:9].lower() == "#redirect"


def plain_text(wikitext: str, namespaces: Namespaces) -> str:
    """The prose, sections under their headings. Empty when nothing is left; ValueError when it cannot be parsed."""
    try:
        code = mwparserfromhell.parse(wikitext, skip_style_tags=True)
    except (ParserError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return _assembled(_sections(code, _Renderer(namespaces)))


@dataclass
class _Section:
    """A heading (level 0 and no title for the beginning) and the prose below it."""

    level: int
    title: str
    text: str


def _sections(code: Wikicode, renderer: "_Renderer") -> list[_Section]:
    sections, pieces = [_Section(0, "", "")], []
    for node in code.nodes:
        if isinstance(node, Heading):
            sections[-1].text = _tidied("".join(pieces))
            sections.append(_Section(node.level, _tidied(renderer.render(node.title)), ""))
            pieces = []
        else:
            pieces.append(renderer.node(node))
    sections[-1].text = _tidied("".join(pieces))
    return sections


def _assembled(sections: list[_Section]) -> str:
    """Without the appendices, and without headings below which nothing is left."""
    kept: list[_Section] = []
    dropped_level = 0
    for section in sections:
        if dropped_level and section.level > dropped_level:
            continue
        dropped_level = section.level if section.title.lower() in _APPENDICES else 0
        if not dropped_level:
            kept.append(section)
    parts: list[str] = []
    for place, section in enumerate(kept):
        if _has_text(kept, place):
            parts += [part for part in (section.title, section.text) if part]
    return "\n\n".join(parts)


def _has_text(sections: list[_Section], place: int) -> bool:
    """Whether there is text below a heading or below the headings under it."""
    if sections[place].text:
        return True
    for section in sections[place + 1 :]:
        if section.level <= sections[place].level:
            return False
        if section.text:
            return True
    return False


class _Renderer:
    """Turns nodes into text."""

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._by_type: list[tuple[type[Node], Callable[..., str]]] = [
            (Text, lambda node: node.value), (Wikilink, self._link), (Template, self._template), (Tag, self._tag),
            (ExternalLink, self._external), (HTMLEntity, self._entity), (Heading, lambda node: self.render(node.title)),
        ]  # fmt: skip

    def render(self, code: Wikicode | None) -> str:
        return "".join(map(self.node, code.nodes)) if code is not None else ""

    def node(self, node: Node) -> str:
        for kind, render in self._by_type:
            if isinstance(node, kind):
                return render(node)
        return ""

    def _link(self, link: Wikilink) -> str:
        title = str(link.title).strip()
        if self._namespaces.hides(title):
            return ""
        if link.text is not None:
            return self.render(link.text)
        return self.render(link.title).lstrip(":").partition("#")[0].replace("_", " ")

    def _external(self, link: ExternalLink) -> str:
        return self.render(link.title) if link.brackets else str(link.url)

    def _entity(self, entity: HTMLEntity) -> str:
        try:
            return entity.normalize()
        except (ValueError, KeyError, OverflowError):
            return ""

    def _tag(self, tag: Tag) -> str:
        name = str(tag.tag).strip().lower()
        if name in _DROPPED_TAGS:
            return ""
        if name == "math":
            return f"${str(tag.contents).strip()}$"
        if tag.wiki_markup in _BULLETS:
            return _BULLETS[tag.wiki_markup]
        text = self.render(tag.contents) if tag.contents is not None else ""
        return f"\n{text}" if name in _BLOCK_TAGS and not tag.wiki_markup else text

    def _template(self, template: Template) -> str:
        name = str(template.name).strip().lower().replace("_", " ")
        if name in _SPACES:
            return _SPACES[name]
        values = [each.value for each in template.params if not each.showkey]
        if not values:
            return ""
        if name == "convert" and len(values) > 1:
            return f"{self.render(values[0])} {self.render(values[1])}"
        if name in _FIRST_PARAMETER:
            return self.render(values[0])
        if name in _LAST_PARAMETER or name.startswith("lang-"):
            return self.render(values[-1])
        return ""


def _tidied(text: str) -> str:
    """Without marks of style and the holes that templates leave; a paragraph a line, blank lines between."""
    text = _MAGIC.sub("", _QUOTES.sub("", text))
    text = _EMPTY_BRACKETS.sub("", text)
    lines = (_line(line) for line in text.splitlines())
    return _joined(lines)


def _line(line: str) -> str:
    line = _BLANKS.sub(" ", line).strip()
    line = _BEFORE_COMMA.sub(lambda found: found[1] or found[2], line)
    return "" if line in ("-", "- ") else line


def _joined(lines: Iterable[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept).strip()
