"""Objects of S3, Google Cloud Storage and Azure by URL, streamed; credentials come from where each provider's tools look."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from ingest.documents import Metadata
from ingest.origins.pacing import Pace, paced
from ingest.sources import PIECE_BYTES, STORES, Changed, Identity, Source, Unreadable, named
from mesh.errors import InvalidInput
from mesh.object_stores import open_store, reason

ANSWER_S = 60.0
"""How long a store may take to begin an answer, its client's own retries included."""


@dataclass(frozen=True)
class Bucket:
    """A store, and the URL that its keys are below."""

    store: ObjectStore
    url: str

    async def find(self, key: str, prefix: str) -> list[Source]:
        """The object of this key, or else all objects below it, called by what follows it.

        Empty objects that some tools put where they think a folder is are left out.
        """
        try:
            if key and not key.endswith("/") and (meta := await self._head(key)):
                return [self._source(meta, prefix + key.rsplit("/", 1)[-1])]
            folder = key if not key or key.endswith("/") else f"{key}/"
            metas = _without_folders([meta async for meta in self._list(folder)], folder)
        except BaseError as error:
            raise _unreadable(error, self.url) from error
        if not metas and not key.endswith("/") and key:
            raise Unreadable(f"There is no object {self.url}/{key}, and none below it.")
        return [self._source(meta, prefix + meta["path"][len(folder) :]) for meta in sorted(metas, key=_path)]

    async def _head(self, key: str) -> Any:
        try:
            return await asyncio.wait_for(obstore.head_async(self.store, key), ANSWER_S)
        except FileNotFoundError:
            return None
        except TimeoutError:
            raise self._silent() from None

    async def _list(self, folder: str) -> AsyncIterator[Any]:
        """What the store tells of all objects below, page by page."""
        pages = obstore.list(self.store, folder or None)
        while True:
            try:
                page = await asyncio.wait_for(anext(pages, None), ANSWER_S)
            except TimeoutError:
                raise self._silent() from None
            if page is None:
                return
            for meta in page:
                yield meta

    def _silent(self) -> Unreadable:
        return Unreadable(f"{self.url} did not answer within {ANSWER_S:g} s.")

    def _source(self, meta: Any, display_name: str) -> Source:
        url = f"{self.url}/{meta['path']}"
        return named(url, display_name, StoredObject(self.store, meta["path"], url, _identity(meta, url)))


@dataclass(frozen=True)
class StoredObject:
    """An object. Its ETag, which the listing told, stands for its content."""

    store: ObjectStore
    key: str
    url: str
    listed: Identity
    pace: Pace = field(default_factory=Pace)

    async def identify(self) -> Identity:
        """As the listing said."""
        return self.listed

    async def pieces(self, identity: Identity) -> AsyncGenerator[bytes, None]:
        """Its bytes. Changed when it is not the one that was listed."""
        try:
            result = await asyncio.wait_for(obstore.get_async(self.store, self.key), ANSWER_S)
            if _identity(result.meta, self.url).stamp != identity.stamp:
                raise Changed
            async for piece in paced(_bytes(result), self.pace):
                yield piece
        except FileNotFoundError:
            raise Unreadable("The object is no longer there.") from None
        except TimeoutError:
            raise Unreadable(f"The object store did not answer within {ANSWER_S:g} s.") from None
        except BaseError as error:
            raise _unreadable(error, self.url) from error


async def find_objects(url: str, prefix: str) -> list[Source]:
    """What a URL such as `s3://bucket/reports/` names. InvalidInput for one that is none; Unreadable."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInput(f"{url} is not of the form s3://BUCKET/PREFIX/.") from error
    if parts.scheme not in STORES or not parts.netloc or parts.query or parts.fragment or parts.username:
        raise InvalidInput(f"{url} is not of the form {parts.scheme}://BUCKET/PREFIX/.")
    root = f"{parts.scheme}://{parts.netloc}"
    try:
        store = open_store(root)
    except (BaseError, ValueError) as error:
        raise _unreadable(error, root) from error
    return await Bucket(store, root).find(parts.path.lstrip("/"), prefix)


async def _bytes(result: Any) -> AsyncIterator[bytes]:
    async for piece in result.stream(min_chunk_size=PIECE_BYTES):
        yield bytes(piece)


def _without_folders(metas: list[Any], folder: str) -> list[Any]:
    """The engine gives a key without the `/` at its end, which would tell."""
    folders = {folder.rstrip("/")}
    for meta in metas:
        parts = meta["path"].split("/")
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    return [meta for meta in metas if meta["size"] or meta["path"] not in folders]


def _identity(meta: Any, url: str) -> Identity:
    """Some stores put an ETag in quotes where they give the object, and not where they list it."""
    tag = meta.get("e_tag") or meta["last_modified"].isoformat()
    known: Metadata = {"source": url, "etag": tag}
    return Identity("", meta["size"], tag.strip('"'), known)


def _path(meta: Any) -> str:
    return meta["path"]


def _unreadable(error: Exception, url: str) -> Unreadable:
    return Unreadable(f"The object store does not give it: {reason(error, url)}")
