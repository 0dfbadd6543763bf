"""Collects from one source into one folder: files of records, and a manifest that says what they are and where to go on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mesh.errors import Corrupt, FailedPrecondition
from training import disk
from training.collect.collectors import Collector, Found, Position
from training.records import SHARD_BYTES, SUFFIX, ShardWriter

MANIFEST = "collected.json"
_FORMAT = 1

Watch = Callable[[Found], None]


@dataclass
class Manifest:
    """What a folder holds. It names only files that are whole; whatever else lies there was never finished."""

    collector: str
    identity: dict[str, Any]
    position: Position = None
    finished: bool = False
    records: int = 0
    bytes: int = 0
    dropped: dict[str, int] | None = None
    shards: list[str] | None = None
    format: int = _FORMAT

    def save(self, folder: Path) -> None:
        """Writes it, at once whole."""
        disk.write_whole(folder / MANIFEST, orjson.dumps(self.__dict__, option=orjson.OPT_INDENT_2))


def load(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where there is none. Corrupt when it cannot be read."""
    path = folder / MANIFEST
    try:
        return Manifest(**orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, TypeError) as error:
        raise Corrupt(f"{path} is damaged; collect into another folder.") from error


def prepare(collector: Collector, folder: Path) -> Manifest:
    """Checks source, folder and disk, and tells where to go on. What is there already is never overwritten.

    FailedPrecondition when the folder holds something else.
    """
    manifest = load(folder)
    if manifest is None:
        if folder.exists() and any(folder.iterdir()):
            raise FailedPrecondition(f"{folder} is not empty and was not collected into; name a new folder.")
        manifest = Manifest(collector.name, dict(collector.identity))
    elif (manifest.collector, manifest.identity) != (collector.name, _as_stored(collector.identity)):
        raise FailedPrecondition(
            f"{folder} holds what was collected from {manifest.collector} otherwise ({_told(manifest.identity)}); "
            "name a new folder, or give the same options."
        )
    if not manifest.finished:
        disk.need(folder, collector.check())
    return manifest


def collect(
    collector: Collector,
    folder: Path,
    *,
    limit: int | None = None,
    shard_bytes: int = SHARD_BYTES,
    watch: Watch | None = None,
) -> Manifest:
    """Collects until the source ends or the folder holds `limit` records. Where it is interrupted or fails, what was found so
    far is kept, and the same call goes on after it.
    """
    manifest = prepare(collector, folder)
    if manifest.finished or (limit is not None and manifest.records >= limit):
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    manifest.save(folder)
    run = _Run(manifest, folder, shard_bytes)
    try:
        for found in collector.find(manifest.position):
            run.take(found)
            if watch:
                watch(found)
            if limit is not None and run.records >= limit:
                break
        else:
            manifest.finished = True
    except OSError:
        run.discard()
        raise
    except BaseException as error:
        run.discard() if isinstance(error, FailedPrecondition) else run.commit()
        raise
    run.commit()
    return manifest


class _Run:
    """Takes what is found into files; each commit is a whole file and a manifest that names it."""

    def __init__(self, manifest: Manifest, folder: Path, shard_bytes: int) -> None:
        self._manifest, self._folder, self._shard_bytes = manifest, folder, shard_bytes
        self._names = list(manifest.shards or ())
        self._dropped = Counter(manifest.dropped or {})
        self._position = manifest.position
        self._writer: ShardWriter | None = None

    @property
    def records(self) -> int:
        return self._manifest.records + (self._writer.records if self._writer else 0)

    def take(self, found: Found) -> None:
        if found.record is not None:
            if self._writer is None:
                self._writer = ShardWriter(self._folder / f"{len(self._names):05d}{SUFFIX}")
            self._writer.write(found.record)
        elif found.dropped:
            self._dropped[found.dropped] += 1
        self._position = found.position
        if self._writer is not None and self._writer.bytes >= self._shard_bytes:
            self.commit()

    def commit(self) -> None:
        manifest = self._manifest
        if self._writer is not None:
            self._writer.finish()
            self._names.append(self._writer.path.name)
            manifest.records += self._writer.records
            manifest.bytes += self._writer.bytes
            self._writer = None
        manifest.position = self._position
        manifest.dropped, manifest.shards = dict(self._dropped), self._names
        manifest.save(self._folder)

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()


def _as_stored(identity: Any) -> Any:
    return orjson.loads(orjson.dumps(dict(identity)))


def _told(identity: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in identity.items())
