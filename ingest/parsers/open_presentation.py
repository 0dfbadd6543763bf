"""Presentations of OpenDocument (ODP), slide by slide, which kreuzberg does not read."""

import zipfile
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree

from ingest.documents import Metadata
from ingest.parsers.delimited import write_table
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import Source
from ingest.places import Place
from mesh.errors import InvalidInput

_NAMESPACE = "urn:oasis:names:tc:opendocument:xmlns:{}:1.0"
_DUBLIN_CORE = "http://purl.org/dc/elements/1.1/"
_FOUND = {"title": "title", "subject": "subject", "language": "language", "date": "created"}
MAX_FOUND_CHARACTERS = 500


def read(source: Source, output: TextOutput) -> Metadata:
    """Titles as headings, then the text, tables and notes of each slide. InvalidInput when it is damaged or encrypted."""
    content = _part(source, "content.xml")
    for number, page in enumerate(content.iter(_tag("drawing", "page")), 1):
        output.begin(Place(page=number, slide=number))
        for shape in page:
            _write_shape(shape, output)
        output.write("\n")
    return _found(_part(source, "meta.xml", required=False))


def _write_shape(shape: ElementTree.Element, output: TextOutput) -> None:
    mark = "# " if shape.get(_tag("presentation", "class")) == "title" else ""
    tables = list(shape.iter(_tag("table", "table")))
    if tables:
        for table in tables:
            write_table(_rows(table), output)
        return
    for paragraph in _paragraphs(shape):
        if words := " ".join("".join(paragraph.itertext()).split()):
            output.write(f"{mark}{words}\n")
            output.write("\n" if mark else "", is_content=False)


def _paragraphs(shape: ElementTree.Element) -> Iterator[ElementTree.Element]:
    return (each for each in shape.iter() if each.tag in (_tag("text", "p"), _tag("text", "h")))


def _rows(table: ElementTree.Element) -> Iterator[list[str]]:
    for row in table.iter(_tag("table", "table-row")):
        yield [" ".join(cell.itertext()) for cell in row.iter(_tag("table", "table-cell"))]


def _found(meta: ElementTree.Element) -> Metadata:
    found: Metadata = {}
    for element in meta.iter():
        space, _, name = element.tag.removeprefix("{").partition("}")
        value = (element.text or "").strip()[:MAX_FOUND_CHARACTERS]
        if space == _DUBLIN_CORE and value:
            found |= {"authors": [value]} if name == "creator" else {_FOUND[name]: value} if name in _FOUND else {}
    return found


def _part(source: Source, name: str, *, required: bool = True) -> ElementTree.Element:
    """A part of the package as XML, within the limit of text. A document type is refused: it could define entities."""
    try:
        with zipfile.ZipFile(source.path) as package:
            if not required and name not in package.namelist():
                return ElementTree.Element("none")
            with package.open(name) as file:
                data = file.read(source.limits.max_text_bytes + 1)
        if len(data) > source.limits.max_text_bytes:
            raise InvalidInput("The document unpacks to more than is allowed; it was not read.")
        if b"<!DOCTYPE" in data:
            raise InvalidInput("The document defines a document type of its own, which is not read.")
        return ElementTree.fromstring(data)  # noqa: S314 - without a document type there are no entities
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, ElementTree.ParseError) as error:
        raise InvalidInput(
            f"The content is {source.media_type}, but it cannot be read; it may be damaged, cut off or encrypted."
        ) from error


def _tag(space: str, name: str) -> str:
    return f"{{{_NAMESPACE.format(space)}}}{name}"
