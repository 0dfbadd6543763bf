"""Lets go of kept answers when what they came from changes: of cached ones when anything in their collection does, of records
when a document that they saw is deleted.

Nothing stale is ever found meanwhile: a cached answer's key holds the state of its collection. The retriever is asked for the
states of the collections again and again; when it tells of deletions, ingest is asked which documents are still there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from mesh import logs
from mesh.errors import MurpheyError, NotFound
from orchestrator.cached_answers import CachedAnswerer
from orchestrator.ports import CorpusVersion, Retriever
from orchestrator.records import Records

log = logs.get(__name__)

LOOK_EVERY_S = 2.0
_AT_ONCE = 8
_DOCUMENTS_AT_ONCE = 500
_GONE = CorpusVersion("", "")


class KnownDocuments(Protocol):
    """Knows which documents there are."""

    async def exists(self, document: str) -> bool:
        """Whether there is a document of this resource name with its tenant (mesh.access.tenants)."""
        ...


class Forgetting:
    """Looks at the collections that answers were kept of."""

    def __init__(
        self, answerer: CachedAnswerer, records: Records, retriever: Retriever, documents: KnownDocuments
    ) -> None:
        self._answerer, self._records, self._retriever, self._documents = answerer, records, retriever, documents
        self._seen: dict[str, CorpusVersion] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Looks every LOOK_EVERY_S seconds while inside."""
        looking = asyncio.create_task(self._run())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def conversation(self, identifier: str) -> None:
        """Of a conversation that is deleted; its records go with it."""
        self._answerer.forget_conversation(identifier)

    async def answer(self, identifier: str) -> None:
        """Of an answer that is deleted. NotFound when there is none."""
        await self._records.delete(identifier)
        self._answerer.forget_answers([identifier])

    async def look(self) -> None:
        """Once at every collection; one that cannot be asked about now is looked at again the next time."""
        kept = {*self._answerer.collections(), *await self._records.collections()}
        self._seen = {collection: seen for collection, seen in self._seen.items() if collection in kept}
        for collection in kept:
            try:
                await self._look_at(collection)
            except MurpheyError as error:
                log.info("kept_answers_not_looked_at", collection=collection, error=error.message)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # what failed once may work the next time; nothing stale is found meanwhile
                log.error("kept_answers_not_looked_at", exc_info=error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look_at(self, collection: str) -> None:
        try:
            corpus = await self._retriever.corpus(collection)
        except NotFound:
            corpus = _GONE
        seen = self._seen.get(collection)
        if seen is None or seen.contents != corpus.contents:
            self._answerer.forget_corpora_but(collection, corpus.contents)
        if seen is None or seen.removals != corpus.removals:
            await self._forget_deleted(collection)
        self._seen[collection] = corpus

    async def _forget_deleted(self, collection: str) -> None:
        documents = await self._records.documents(collection)
        deleted: list[str] = []
        for start in range(0, len(documents), _AT_ONCE):  # so that the first failure is the last call
            some = documents[start : start + _AT_ONCE]
            there = await asyncio.gather(*map(self._documents.exists, some))
            deleted += [document for document, exists in zip(some, there, strict=True) if not exists]
        for start in range(0, len(deleted), _DOCUMENTS_AT_ONCE):
            answers = await self._records.delete_seeing(deleted[start : start + _DOCUMENTS_AT_ONCE])
            self._answerer.forget_answers(answers)
            log.info("answers_forgotten", collection=collection, answers=len(answers))
