"""Receives an upload in bounded memory: limits, checksum, and the raw file in the object store. Nothing half is kept."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ingest.documents import NewUpload
from ingest.jobs import new_id
from ingest.raw_notes import RawNotes
from ingest.registration import StoredUpload
from ingest.storage import Storage, StorageAway
from mesh.errors import InvalidInput, Overloaded

IN_MEMORY_BYTES = 1024 * 1024
"""Smaller uploads never touch the scratch folder."""


class Uploads:
    """Takes uploads, so many at a time."""

    def __init__(self, storage: Storage, notes: RawNotes, max_bytes: int, max_uploads: int) -> None:
        self._storage = storage
        self._notes = notes
        self._max_bytes = max_bytes
        self._max_uploads = max_uploads
        self._running = 0

    @asynccontextmanager
    async def received(
        self, upload: NewUpload, size_bytes: int, sha256: str, pieces: AsyncIterator[bytes]
    ) -> AsyncIterator[StoredUpload]:
        """The upload with its bytes stored, to be registered inside; should this process be killed before it is, or should
        that fail, the file is removed later.

        InvalidInput when there are too many bytes, or others than were announced (0 and "" announce nothing).
        """
        key = f"raw/{upload.collection}/{upload.document_id}/{new_id()}"
        with self._notes.noted(key):
            yield await self._receive(upload, key, size_bytes, sha256, pieces)

    async def _receive(
        self, upload: NewUpload, key: str, size_bytes: int, sha256: str, pieces: AsyncIterator[bytes]
    ) -> StoredUpload:
        self.check_size(size_bytes)
        if self._running >= self._max_uploads:
            raise Overloaded(f"{self._running} uploads are being received; try again in a moment.")
        self._running += 1
        spool = _Spool(self._storage.scratch / f"upload-{new_id()}")
        try:
            await self._fill(spool, pieces)
            _compare(spool, size_bytes, sha256)
            await self._storage.put(key, spool.content())
        except OSError as error:  # of the spool; the storage has errors of its own
            raise StorageAway(f"The upload cannot be kept on its way: {error.strerror}") from error
        finally:
            self._running -= 1
            await spool.discard()
        return StoredUpload(upload, spool.sha256.hexdigest(), spool.size_bytes, key)

    def check_size(self, size_bytes: int) -> None:
        """InvalidInput for a size that cannot be or is over the limit."""
        if size_bytes < 0:
            raise InvalidInput(f"size_bytes is {size_bytes}; it must be 0 or more.", field="header.size_bytes")
        if size_bytes > self._max_bytes:
            raise InvalidInput(
                f"The file has {size_bytes} bytes; {self._max_bytes} are taken. Split it, or raise max_upload_mib of ingest.",
                field="header.size_bytes",
            )

    async def _fill(self, spool: "_Spool", pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            self.check_size(spool.size_bytes + len(piece))
            await spool.add(piece)
        await spool.flush()


class _Spool:
    """Bytes in memory while they are few, in a file when they are many."""

    def __init__(self, path: Path) -> None:
        self.size_bytes = 0
        self.sha256 = hashlib.sha256()
        self._path = path
        self._kept = bytearray()
        self._on_disk = False
        self._writing: asyncio.Future[None] | None = None

    async def add(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        self._kept += piece
        if len(self._kept) > IN_MEMORY_BYTES:
            self._on_disk = True
            await self.flush()

    async def flush(self) -> None:
        """Hashes, and writes to the file if there is one."""
        kept, self._kept = self._kept, bytearray() if self._on_disk else self._kept
        if len(kept) < IN_MEMORY_BYTES:
            self._write(kept)
        else:
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, kept))
            await asyncio.shield(self._writing)

    def content(self) -> bytes | Path:
        """All of it."""
        return self._path if self._on_disk else bytes(self._kept)

    async def discard(self) -> None:
        """Removes the file if there is one. A write goes on in its thread when its upload is cancelled: it is waited for."""
        if self._on_disk:
            if self._writing is not None:
                await asyncio.wait([self._writing])
            self._path.unlink(missing_ok=True)

    def _write(self, kept: bytearray) -> None:
        self.sha256.update(kept)
        if self._on_disk:
            with self._path.open("ab") as file:
                file.write(kept)


def _compare(spool: _Spool, size_bytes: int, sha256: str) -> None:
    if size_bytes and spool.size_bytes != size_bytes:
        raise InvalidInput(
            f"{spool.size_bytes} bytes came; the header said {size_bytes}. Upload the file again.",
            field="header.size_bytes",
        )
    if sha256 and spool.sha256.hexdigest() != sha256.lower():
        raise InvalidInput(
            f"The bytes that came have SHA-256 {spool.sha256.hexdigest()}; the header said {sha256}. Upload the file again.",
            field="header.sha256",
        )
