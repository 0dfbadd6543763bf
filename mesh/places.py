"""Where in a document a text stands, beyond its page: one type for the services that pass it on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """In the terms of the document's format; what the format does not have is 0 or empty. Numbers count from 1.

    `table` is the table of the document that the text holds or begins in, `table_header` what names its columns where the
    text has rows of it without its header. `member` is a file within an archive or an attachment of a mail, with `/` between
    levels. Times are in seconds from the beginning of a recording.
    """

    slide: int = 0
    sheet: str = ""
    table: int = 0
    table_header: str = ""
    message: int = 0
    member: str = ""
    start_s: float = 0.0
    end_s: float = 0.0


NOWHERE = Place()
