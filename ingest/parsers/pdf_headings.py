"""The headings of a PDF: its bookmarks, found again as lines of the pages that they lead to, and marked as Markdown does.

They begin at the second level, `##`, so that a line of a listing such as `# apt-get update` is not taken for one.
"""

import re
from collections.abc import Sequence

from ingest.parsers.pdf_layout import Bookmark

MAX_LEVEL = 5
_NUMBERING = r"(?:(?:chapter|part|appendix|section)[ \t]+)?(?:[\dA-Za-z]{1,3}(?:\.\d+)*\.?[ \t]+)?"


def with_headings(text: str, bookmarks: Sequence[Bookmark]) -> str:
    """The text of a page with the lines marked that its bookmarks name; a bookmark without such a line changes nothing."""
    at = 0
    for bookmark in bookmarks:
        words = r"[^\w\n]+".join(re.findall(r"\w+", bookmark.title))
        if not words:
            continue
        line = re.compile(rf"^[ \t]*({_NUMBERING}[^\w\n]*{words}[^\w\n]*)$", re.IGNORECASE | re.MULTILINE)
        match = line.search(text, at)
        if match and "|" not in match[1]:
            mark = "#" * (min(bookmark.level, MAX_LEVEL) + 1) + " "
            text = text[: match.start(1)] + mark + text[match.start(1) :]
            at = match.end(1) + len(mark)
    return text
