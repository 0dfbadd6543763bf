"""Takes a set's corpus in, as a user's documents, into a collection of its own that later runs find again."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ingest.sending import Progress, Result, Sender
from ingest.sources import Source
from mesh.errors import FailedPrecondition
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from orchestrator.evaluation.clients.collections import CollectionSettings, create_collection, live_documents
from orchestrator.evaluation.clients.mesh import LiveMesh
from orchestrator.evaluation.runs import slug
from orchestrator.evaluation.sets import Corpus, Document

FILES_AT_ONCE = 2_000
"""Written to disk at a time, so that a large corpus does not stand there twice."""
TOLERATED_SHARE = 0.05
"""Of documents that cannot be read: more of them, and something is wrong with the mesh or the set."""

Advance = Callable[[int], None]
"""Told how many documents have ended."""


@dataclass(frozen=True)
class Taken:
    """The collection, and the documents that could not be taken in."""

    collection: str
    failed: tuple[str, ...] = ()


def own_collection(name: str, corpus: Corpus, settings: CollectionSettings) -> str:
    """The id of the collection for a corpus: the same content with the same settings has the same one."""
    described = json.dumps([corpus.fingerprint, asdict(settings)])
    return f"eval-{slug(name)}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"


async def take_in(
    mesh: LiveMesh, collection: str, corpus: Corpus, settings: CollectionSettings, advance: Advance
) -> Taken:
    """Makes every document of a corpus searchable; those that are already stay as they are.

    FailedPrecondition when many of them cannot be.
    """
    await create_collection(mesh, collection, settings)
    live = await live_documents(mesh, collection)
    todo = (document for document in corpus.documents() if document.content and document.file_name not in live)
    ended = len(live)
    advance(ended)
    failed: list[Result] = []
    for batch in _batches(todo, FILES_AT_ONCE):
        results = await _send(mesh, collection, batch, lambda count, before=ended: advance(before + count))
        failed += [result for result in results if result.status == "failed"]
        ended += len(batch)
        if len(failed) > max(1, TOLERATED_SHARE * ended):
            raise FailedPrecondition(
                f"{len(failed)} of {ended} documents could not be taken in, the first one {failed[0].document}: "
                f"{failed[0].error}"
            )
    return Taken(collection, tuple(result.document for result in failed))


async def _send(mesh: LiveMesh, collection: str, batch: list[Document], advance: Advance) -> list[Result]:
    results: list[Result] = []

    def ended(progress: Progress) -> None:
        advance(progress.ended)

    with TemporaryDirectory() as folder:
        sources = list(_written(batch, Path(folder)))
        sender = Sender(IngestServiceStub(mesh.ingest), f"collections/{collection}", {}, results.append, ended)
        await sender.send(sources)
    return results


def _written(batch: Iterable[Document], folder: Path) -> Iterator[Source]:
    for number, document in enumerate(batch):
        path = folder / f"{number}.txt"
        path.write_text(f"{document.content}\n", encoding="utf-8")
        yield Source(path, document.file_name)


def _batches(documents: Iterator[Document], size: int) -> Iterator[list[Document]]:
    while batch := list(islice(documents, size)):
        yield batch
