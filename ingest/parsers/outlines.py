"""How the parsed text of each format is cut: which headings it has, and whether it has tables."""

from ingest.headings import BookmarkOutline, CodeOutline, OrgOutline, Outline, UnderlinedOutline
from ingest.parsers import media_types, text_types

_WITHOUT_HEADINGS = (
    media_types.DOC, text_types.MAIL, media_types.MSG, text_types.CSV, text_types.TSV, text_types.JSON,
    text_types.NDJSON, *media_types.IMAGES, *media_types.RECORDINGS,
)  # fmt: skip


def outline_of(media_type: str) -> Outline | None:
    """A new outline for one text; None for a format without headings."""
    if media_type in (text_types.PLAIN, text_types.RST):
        return UnderlinedOutline()
    if media_type == media_types.PDF:
        return BookmarkOutline()
    if media_type == text_types.ORG:
        return OrgOutline()
    if text_types.is_code(media_type):
        return CodeOutline()
    return None if media_type in _WITHOUT_HEADINGS else Outline()


def has_tables(media_type: str) -> bool:
    """Whether lines that begin with a bar are rows of tables."""
    return media_type not in (text_types.PLAIN, text_types.RST) and not text_types.is_code(media_type)
