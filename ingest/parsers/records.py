"""JSON and NDJSON as lines of `key: value`, one block a record: what people ask for, without quotes and escapes."""

import json
from collections.abc import Iterator
from typing import Any

from ingest.documents import Metadata
from ingest.parsers.output import TextOutput
from ingest.parsers.reading import Source
from ingest.parsers.text_types import NDJSON

MAX_PARSED_BYTES = 64 * 1024 * 1024
"""A larger file takes some times its size in memory; it is indexed as the text it is."""
MAX_LEVELS = 64


class NotRecords(Exception):
    """The text is not JSON throughout, too large or nested too deeply: it is indexed as it stands."""


def read(source: Source, output: TextOutput) -> Metadata:
    """NotRecords before anything is written."""
    try:
        records = _records(source)
    except (ValueError, RecursionError) as error:
        raise NotRecords(str(error)) from error
    for lines in records:
        output.write("\n".join(lines) + "\n\n")
    return {}


def _records(source: Source) -> list[list[str]]:
    if source.path.stat().st_size > MAX_PARSED_BYTES:
        raise ValueError("too large to be parsed whole")
    text = source.text().removeprefix("\ufeff")
    if source.media_type == NDJSON:
        found = [json.loads(line) for line in text.split("\n") if line.strip()]
    else:
        document = json.loads(text)
        found = document if isinstance(document, list) else [document]
    return [list(_lines(record, 0)) for record in found]


def _lines(value: Any, level: int) -> Iterator[str]:
    if level > MAX_LEVELS:
        raise RecursionError
    indent = "  " * level
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list) and item and not _is_row(item):
                yield f"{indent}{key}:"
                yield from _lines(item, level + 1)
            else:
                yield f"{indent}{key}: {_shown(item)}"
    elif isinstance(value, list):
        for item in value:
            yield from (f"{indent}- {_shown(item)}",) if not isinstance(item, dict | list) else _lines(item, level + 1)
    else:
        yield f"{indent}{_shown(value)}"


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and not any(isinstance(item, dict | list) for item in value) and len(value) <= 16


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    return json.dumps(value, ensure_ascii=False)
