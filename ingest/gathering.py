"""All that a command names, of whatever kind: files and folders, objects of stores, pages of the web."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.origins.folders import Hashes, find_files
from ingest.sources import STORES, WEB, Source
from mesh.errors import InvalidInput, MurpheyError


def scheme(place: str) -> str:
    """Of a URL; empty for a path."""
    found, separator, _ = place.partition("://")
    return found.lower() if separator and found.isalnum() else ""


def check_places(places: Sequence[str], *, sync: bool, watch: bool) -> None:
    """InvalidInput for a path that is not there, a URL of another kind, and what cannot be kept equal or watched."""
    for place in places:
        kind = scheme(place)
        if kind and kind not in (*STORES, *WEB):
            known = ", ".join(f"{known}://" for known in (*STORES, *WEB))
            raise InvalidInput(f"{place} is a URL of a kind that is not read; {known} are.")
        if not kind and not Path(place).exists():
            raise InvalidInput(f"There is no file or folder {place}.")
        if kind in WEB and sync:
            raise InvalidInput(f"{place} cannot be listed, so nothing can be told to have vanished: leave out --sync.")
        if kind and watch:
            raise InvalidInput(f"{place} cannot be watched; folders can be.")
        if not kind and sync and not Path(place).is_dir():
            raise InvalidInput(f"{place} is not a folder: --sync makes a collection equal to folders.")


@dataclass(frozen=True)
class Gatherer:
    """Finds the sources of a command, as often as it is asked."""

    places: Sequence[str]
    prefix: str
    hashes: Hashes
    stack: AsyncExitStack
    allow_private: bool

    @classmethod
    @asynccontextmanager
    async def open(cls, places: Sequence[str], prefix: str, *, allow_private: bool) -> AsyncIterator["Gatherer"]:
        """What it found can be read until it is left."""
        async with AsyncExitStack() as stack:
            yield cls(places, prefix, {}, stack, allow_private)

    async def find(self) -> list[Source]:
        """All sources. The second of two with one name has a problem."""
        folders = [Path(place) for place in self.places if not scheme(place)]
        found = await asyncio.to_thread(lambda: list(find_files(folders, self.prefix, self.hashes)))
        for place in self.places:
            if scheme(place) in STORES:
                found += await self._objects(place)
        found += await self._pages([place for place in self.places if scheme(place) in WEB])
        return list(_without_doubles(found))

    async def _objects(self, url: str) -> list[Source]:
        from ingest.origins.buckets import find_objects  # only here: loading the library takes time

        try:
            return await find_objects(url, self.prefix)
        except MurpheyError as error:
            return [Source(url, self.prefix, problem=error.message, hides=True)]

    async def _pages(self, urls: Sequence[str]) -> list[Source]:
        if not urls:
            return []
        from ingest.origins.web import Web  # as above

        web = await self.stack.enter_async_context(Web.open(allow_private=self.allow_private))
        return [web.source(url, self.prefix) for url in urls]


def _without_doubles(sources: Iterable[Source]) -> Iterator[Source]:
    taken: dict[str, Source] = {}
    for source in sources:
        first = taken.setdefault(source.display_name, source)
        if first is source or source.hides:
            yield source
        elif not _same_place(first.path, source.path):
            problem = f"{first.path} has the same name {source.display_name}: give one of them --prefix."
            yield replace(source, problem=problem)


def _same_place(first: str, second: str) -> bool:
    try:
        return first == second or Path(first).samefile(second)
    except (OSError, ValueError):
        return False
