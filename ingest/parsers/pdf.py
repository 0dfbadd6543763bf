"""PDF: the text of each page in reading order, tables and bookmarks as Markdown, pages that are images by OCR."""

from kreuzberg import ExtractionConfig, KreuzbergError, PageConfig, extract_bytes_sync, render_pdf_page

from ingest.documents import Metadata
from ingest.parsers import pdf_layout, pdf_tables
from ingest.parsers.kreuzberg_extract import explain, found_in, unified
from ingest.parsers.media_types import PDF
from ingest.parsers.output import TextOutput
from ingest.parsers.pdf_headings import with_headings
from ingest.parsers.reading import Source
from ingest.places import Place
from mesh.errors import InvalidInput, Unsupported

PAGE_BREAK = "\n\n"
MIN_PAGE_CHARACTERS = 16
"""A page with less may be a scan that carries a stamp or a number."""
SCAN_DPI = 200

_CONFIG = ExtractionConfig(
    use_cache=False, enable_quality_processing=False, output_format="plain", pages=PageConfig(extract_pages=True)
)  # fmt: skip


def read(source: Source, output: TextOutput) -> Metadata:
    """InvalidInput for a damaged or encrypted file, one with too many pages or without text."""
    data = source.data()
    try:
        result = extract_bytes_sync(data, PDF, config=_CONFIG)
    except KreuzbergError as error:
        raise InvalidInput(explain(str(error), PDF)) from error
    texts = [unified(page["content"]) for page in result.pages or []]
    if len(texts) > source.limits.max_pages:
        raise InvalidInput(f"The document has {len(texts)} pages; {source.limits.max_pages} are read. Split it.")
    found = found_in(result.metadata)
    layout = pdf_layout.Layout(data)
    unread = _recognize(source, layout, texts)
    if unread:
        found["pages_not_read"] = len(unread)
    bookmarks = layout.bookmarks()
    for number, text in enumerate(texts):
        output.begin(Place(page=number + 1))
        shown = pdf_tables.with_tables(text, layout.words(number)) if pdf_tables.may_have_table(text) else text
        shown = with_headings(shown, bookmarks.get(number, ()))
        output.write(shown + (PAGE_BREAK if number + 1 < len(texts) else ""))
    return found


def _recognize(source: Source, layout: pdf_layout.Layout, texts: list[str]) -> list[int]:
    """Fills in the text of pages that are images; answers those that could not be read because OCR is off."""
    empty = [number for number, text in enumerate(texts) if len(text.strip()) < MIN_PAGE_CHARACTERS]
    scans = empty if len(empty) == len(texts) else [number for number in empty if layout.has_image(number)]
    if not scans:
        return []
    try:
        source.ocr.reserve(len(scans))
    except Unsupported:
        if len(empty) == len(texts):
            raise
        return scans
    for number in scans:
        try:
            image = render_pdf_page(str(source.path), number, dpi=SCAN_DPI)
        except KreuzbergError:
            continue
        texts[number] = source.ocr(bytes(image), "image/png") or texts[number]
    return []
