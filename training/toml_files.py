"""Settings from TOML files, with single values put over them."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput, NotFound


def read_toml(path: Path) -> dict[str, Any]:
    """NotFound for no file; InvalidInput for what is no TOML."""
    if not path.is_file():
        raise NotFound(f"{path} does not exist.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from error


def read_toml_with(path: Path, changes: Sequence[str]) -> dict[str, Any]:
    """`changes` are of the form `steps=100` and stand over the file. InvalidInput for another form."""
    return read_toml(path) | dict(map(_value, changes))


def _value(change: str) -> tuple[str, Any]:
    name, sign, value = change.partition("=")
    if not sign:
        raise InvalidInput(f"{change!r} is not of the form name=value.")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value
