"""Rows to fine-tune on, from JSON lines in three forms, one a file:

- a chat, `{"messages": [{"role", "content"}, …]}`, whose answers are each learned from what stands before them;
- an instruction, `{"instruction", "input", "output"}`;
- a preference, `{"prompt": [messages], "chosen": [messages], "rejected": [messages]}`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mesh.errors import InvalidInput, NotFound

Message = dict[str, str]
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Example:
    """An answer and what it answers."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]


@dataclass(frozen=True)
class Preference:
    """Two answers, of which the first is better."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]


Row = TypeVar("Row", Example, Preference)


def read_examples(files: Iterable[Path]) -> list[Example]:
    """From chats and instructions. InvalidInput names the line that is neither; NotFound the file."""
    return [example for file in files for number, row in _json_lines(file) for example in _examples(row, file, number)]


def read_preferences(files: Iterable[Path]) -> list[Preference]:
    """InvalidInput names the line that is none."""
    return [_preference(row, file, number) for file in files for number, row in _json_lines(file)]


def parted(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """To train on, and every so many-th row to validate with."""
    if not share or len(rows) < 2:
        return list(rows), []
    every = max(2, round(1 / share))
    return [row for n, row in enumerate(rows) if n % every], [row for n, row in enumerate(rows) if n % every == 0]


def fitting(rows: Sequence[Row], tokens: Callable[[Row], int], limit: int) -> list[Row]:
    """Those that have no more tokens than `limit`. InvalidInput when there are none."""
    kept = [row for row in rows if tokens(row) <= limit]
    if not kept:
        told = f"all {len(rows)} rows have more than max_tokens, {limit}, tokens" if rows else "the data holds no rows"
        raise InvalidInput(f"There is nothing to train on: {told}.", field="data")
    return kept


def _examples(row: dict[str, Any], file: Path, number: int) -> Iterator[Example]:
    if "messages" in row:
        messages = _messages(row["messages"], file, number)
        for place, message in enumerate(messages):
            if message["role"] == "assistant" and place:
                yield Example(messages[:place], (message,))
    elif isinstance(row.get("instruction"), str) and isinstance(row.get("output"), str):
        asked = "\n\n".join(part for part in (row["instruction"], row.get("input") or "") if part)
        yield Example(({"role": "user", "content": asked},), ({"role": "assistant", "content": row["output"]},))
    else:
        raise _wrong(file, number, "neither `messages` nor `instruction` and `output`")


def _preference(row: dict[str, Any], file: Path, number: int) -> Preference:
    if not row.keys() >= {"prompt", "chosen", "rejected"}:
        raise _wrong(file, number, "`prompt`, `chosen` and `rejected` are needed for a preference")
    return Preference(*(_messages(row[key], file, number) for key in ("prompt", "chosen", "rejected")))


def _messages(value: Any, file: Path, number: int) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _wrong(file, number, "messages are a list that is not empty")
    for message in value:
        if (
            not isinstance(message, dict)
            or message.get("role") not in ROLES
            or not isinstance(message.get("content"), str)
        ):
            raise _wrong(file, number, f"a message has a role ({', '.join(ROLES)}) and a content")
    return tuple({"role": message["role"], "content": message["content"]} for message in value)


def _json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not file.is_file():
        raise NotFound(f"{file} does not exist.")
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise _wrong(file, number, "not valid JSON in UTF-8") from error
            if not isinstance(row, dict):
                raise _wrong(file, number, "not a JSON object")
            yield number, row


def _wrong(file: Path, number: int, what: str) -> InvalidInput:
    return InvalidInput(f"{file}, line {number}: {what}.", field="data")
