"""A file to read through once: on this machine, or of the web."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.errors import InvalidInput, NotFound
from training.collect.polite import Pacing, PoliteClient, WebFile

_SCHEMES = ("http://", "https://")


@dataclass(frozen=True)
class Input:
    """`name` is a path or a URL; `path` None for one of the web, `size_bytes` None where it is not known."""

    name: str
    path: Path | None = None
    size_bytes: int | None = None
    pacing: Pacing | None = None

    @contextmanager
    def open(self) -> "Iterator[io.BufferedReader[Any]]":
        """Its bytes, from the beginning."""
        if self.path is not None:
            with self.path.open("rb") as file:
                yield file
            return
        with PoliteClient(pacing=self.pacing) as client, io.BufferedReader(WebFile(client, self.name)) as reader:
            yield reader


def find(place: str, pacing: Pacing | None = None) -> Input:
    """The input at a path or URL. NotFound for a path at which there is no file."""
    if place.startswith(_SCHEMES):
        return Input(place, pacing=pacing)
    path = Path(place)
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; name a file.")
    if not path.is_file():
        raise NotFound(f"There is no file {path}.")
    return Input(str(path), path, path.stat().st_size)
