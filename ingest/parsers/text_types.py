"""Kinds of text, told apart by how the text begins and, where kinds look alike, by the file's name."""

import re
from pathlib import PurePosixPath

PLAIN, MARKDOWN, RST, ORG = "text/plain", "text/markdown", "text/x-rst", "text/org"
HTML, XML, CSV, TSV = "text/html", "application/xml", "text/csv", "text/tab-separated-values"
JSON, NDJSON = "application/json", "application/x-ndjson"
MAIL, MBOX, RTF = "message/rfc822", "application/mbox", "application/rtf"

CODE_SUFFIXES = {
    ".py": "python", ".pyi": "python", ".js": "js", ".jsx": "js", ".mjs": "js", ".cjs": "js", ".ts": "ts", ".tsx": "ts",
    ".go": "go", ".java": "java", ".kt": "kotlin", ".kts": "kotlin", ".scala": "scala", ".c": "c", ".h": "c", ".cc": "cpp",
    ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp", ".hh": "cpp", ".cs": "csharp", ".rs": "rust", ".rb": "ruby", ".php": "php",
    ".swift": "swift", ".lua": "lua", ".pl": "perl", ".pm": "perl", ".hs": "haskell", ".ex": "elixir", ".exs": "elixir",
    ".proto": "proto", ".sol": "sol", ".ps1": "powershell", ".r": "r",
}  # fmt: skip
"""Languages as langchain-text-splitters names them."""
CODE = "text/x-source-"

_BY_SUFFIX = {
    ".md": MARKDOWN, ".markdown": MARKDOWN, ".mdown": MARKDOWN, ".html": HTML, ".htm": HTML, ".xhtml": HTML, ".rst": RST,
    ".org": ORG, ".csv": CSV, ".tsv": TSV, ".tab": TSV, ".xml": XML, ".eml": MAIL, ".mbox": MBOX,
    **{suffix: CODE + language for suffix, language in CODE_SUFFIXES.items()},
}  # fmt: skip

_HEADER = re.compile(
    rb"^(?:from|to|cc|subject|date|received|mime-version|message-id|return-path|delivered-to|reply-to|content-type"
    rb"|x-[\w-]+)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_HTML = re.compile(rb"(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.DOTALL)
_MBOX = re.compile(rb"From \S+[ \t][^\n]*\d\d:\d\d[^\n]*\r?\n(?:>?[\w-]+:)")
_NDJSON = re.compile(rb"[ \t]*\{[^\n]*\}[ \t]*\r?\n[ \t]*\{")
_JSON = re.compile(rb"\{\s*(?:\"|\})|\[\s*(?:[\[{\"\]\d\-]|true|false|null)")


def text_type(head: bytes, name: str) -> str:
    """The media type of text that begins with `head`, in UTF-8, in a file called `name`."""
    begin = head[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    suffix = _BY_SUFFIX.get(PurePosixPath(name).suffix.lower(), PLAIN)
    if _HTML.match(begin.lower()):
        return HTML
    if begin.startswith(b"<?xml"):
        return XML
    if _MBOX.match(head[:4096]):
        return MBOX
    if _is_mail(head, suffix):
        return MAIL
    if not suffix.startswith(CODE) and suffix not in (MARKDOWN, CSV, TSV):
        if _NDJSON.match(head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")):
            return NDJSON
        if _JSON.match(begin):
            return JSON
    if suffix in (MAIL, MBOX) or (suffix == XML and not begin.startswith(b"<")):
        return PLAIN
    return suffix


def is_code(media_type: str) -> bool:
    """Whether it is source code."""
    return media_type.startswith(CODE)


def _is_mail(head: bytes, suffix: str) -> bool:
    headers = head.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0]
    found = len({match.group().lower() for match in _HEADER.finditer(headers)})
    return bool(_HEADER.match(head)) and (found >= 3 or (found >= 1 and suffix == MAIL))
