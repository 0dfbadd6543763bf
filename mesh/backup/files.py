"""Copies files into a place. A file that an earlier backup has by the same key is not read again: most keys are never used for
other bytes.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from mesh.backup.manifest import FilesCopy
from mesh.backup.place import FILES, Place
from mesh.errors import Corrupt

_LINES = 5_000


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """A file in the place."""

    key: str
    path: str
    size: int
    sha256: str


class FileCopies:
    """Of one backup. `read` gives a file's bytes by its key."""

    def __init__(self, place: Place, backup: str, read: Callable[[str], AsyncIterator[bytes]]) -> None:
        self._place, self._backup, self._read = place, backup, read
        self._earlier: dict[str, CopiedFile] = {}
        self.copied: dict[str, CopiedFile] = {}

    async def know(self, copy: FilesCopy) -> None:
        """The files of an earlier backup."""
        async for file in files_of(self._place, copy):
            self._earlier[file.key] = file

    async def add(self, key: str, *, anew: bool = False) -> bool:
        """Copies a file, `anew` where its bytes may be others than before; False for one that is gone."""
        if key in self.copied:
            return True
        if not anew and (known := self._earlier.get(key)) is not None:
            self.copied[key] = known
            return True
        pieces = self._read(key)
        try:
            first = await anext(pieces, b"")
        except Corrupt:
            return False
        path = f"{FILES}/{self._backup}/{key}"
        self.copied[key] = CopiedFile(key, path, *await self._place.put_file(path, _after(first, pieces)))
        return True

    async def finish(self, keys: frozenset[str] | None = None) -> FilesCopy:
        """Those of these keys, all for None."""
        chosen = [file for key, file in sorted(self.copied.items()) if keys is None or key in keys]
        lists: list[str] = []
        for at in range(0, len(chosen), _LINES):
            lines = [
                json.dumps({name: getattr(file, name) for name in CopiedFile.__slots__})
                for file in chosen[at : at + _LINES]
            ]
            lists.append(await self._place.put_blob("\n".join(lines).encode()))
        return FilesCopy(count=len(chosen), size_bytes=sum(file.size for file in chosen), lists=lists)


async def files_of(place: Place, copy: FilesCopy) -> AsyncIterator[CopiedFile]:
    """The files of a backup."""
    for blob in copy.lists:
        async for line in place.lines(blob):
            yield CopiedFile(str(line["key"]), str(line["path"]), int(str(line["size"])), str(line["sha256"]))


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
