"""Moves a collection from one store to another, with its vectors: nothing is embedded.

All pages are copied while searches and writes go on. The documents that are written to meanwhile are noted, and copied anew;
for the last of them writes are held back. Then the chunks are counted in both stores, questions that had other answers before
are asked again, and one write of the catalog makes the target the one that serves. Whatever interrupts a move before leaves
the source as it was: the same call goes on where it stopped, and a call back to the source takes the copy away.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import TypeVar

from mesh import logs
from mesh.access.tenants import public
from mesh.errors import Corrupt, FailedPrecondition, NotFound, Overloaded
from retriever.catalog import CollectionRecord
from retriever.collections import Collections
from retriever.filters import Fields
from retriever.moving.agreement import Agreement, differing, questions
from retriever.moving.state import MoveFiles, MoveState
from retriever.stores.base import Counts, OfDocuments
from retriever.stores.gates import Changes
from retriever.stores.placed import PlacedStore

log = logs.get(__name__)

DOCUMENTS_AT_ONCE = 64
FEW_DOCUMENTS = 64
"""So many are copied while writes are held back."""
ROUNDS = 20
"""Of documents that change faster than they are copied; then writes are held back all the same."""
_RETRY_S = 0.2

Result = TypeVar("Result")


class Phase(Enum):
    """What a move is at."""

    COPYING = "copying"
    CATCHING_UP = "catching up"
    COMPARING = "comparing"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a move has come; `agreement` at its end, where there was anything to move."""

    phase: Phase
    copied: int
    total: int
    agreement: Agreement | None = None


class Mover:
    """The moves of one retriever, which is the only one that writes to its collections."""

    def __init__(self, collections: Collections, store: PlacedStore, files: MoveFiles) -> None:
        self._collections, self._store, self._files = collections, store, files
        self._changes: dict[str, Changes] = {}
        self._moving: dict[str, asyncio.Task[Agreement] | None] = {}

    async def open(self) -> None:
        """Takes up what was interrupted: changes are noted again, and what is left of a collection that was moved goes."""
        for state in list(self._files.all()):
            try:
                served_by = self._served_by(await self._collections.get(state.collection))
            except NotFound:
                served_by = state.source
            if served_by == state.source:
                self._follow(state)
            else:
                await self._clear(state, state.source)

    async def close(self) -> None:
        """Ends what cannot be broken off, and lets go of the files."""
        await asyncio.gather(*(task for task in self._moving.values() if task), return_exceptions=True)
        for changes in self._changes.values():
            changes.close()

    async def move(
        self, collection: str, target: str, *, questions_asked: int, least_agreement: float
    ) -> AsyncGenerator[Progress, None]:
        """Until the target serves the collection. FailedPrecondition where the stores do not agree, or indexes came or went."""
        if target not in self._store.names:
            raise FailedPrecondition(_only_here(target))
        if collection in self._moving:
            raise FailedPrecondition(f"The collection {public(collection)!r} is being moved already.")
        self._moving[collection] = None
        try:
            record = await self._collections.get(collection)
            if self._served_by(record) == target:
                await self._take_back(collection, target)
                yield Progress(Phase.DONE, 0, 0)
                return
            state = await self._begin(record, target)
            total = await self._total(state.indexes, state.source)
            async for copied in self._copy(state):
                yield Progress(Phase.COPYING, copied, total)
            async for _ in self._catch_up(state):
                yield Progress(Phase.CATCHING_UP, total, total)
            yield Progress(Phase.COMPARING, total, total)
            agreement = await self._finish(state, questions_asked, least_agreement)
            moved = await self._total(state.indexes, target)
            yield Progress(Phase.DONE, moved, moved, agreement)
        finally:
            if self._moving.get(collection, False) is None:
                del self._moving[collection]

    async def _finish(self, state: MoveState, asked: int, least: float) -> Agreement:
        """Not to be broken off: a caller that leaves would leave the catalog written and its writers behind the gate."""
        task = asyncio.create_task(self._compare_and_switch(state, asked, least))
        self._moving[state.collection] = task
        task.add_done_callback(lambda _: self._moving.pop(state.collection))
        agreement = await asyncio.shield(task)
        self._moving.setdefault(state.collection, None)
        return agreement

    def _served_by(self, record: CollectionRecord) -> str:
        return record.store or self._store.default

    async def _begin(self, record: CollectionRecord, target: str) -> MoveState:
        """A move that stopped, or a new one. It is written down before anything is copied, so that all of a copy is known."""
        indexes = tuple(index.index for index in record.indexes)
        state = self._files.load(record.id)
        if state is not None and (state.target != target or state.indexes != indexes):
            await self._clear(state, state.target)
            state = None
        if state is None:
            await self._check_empty(indexes, target)
            state = MoveState(record.id, self._served_by(record), target, indexes)
            self._files.save(state)
        self._follow(state)
        for index in record.indexes:
            await self._store.gate(index.index).older_calls()  # which were not noted
            await self._store.named(target).create_index(index.index, index.dimensions)
            await self._store.named(target).add_fields(index.index, record.fields.minus(Fields()))
        return state

    def _follow(self, state: MoveState) -> None:
        if state.collection not in self._changes:
            self._changes[state.collection] = Changes(self._files.changes(state.collection))
        for index in state.indexes:
            self._store.gate(index).changes = self._changes[state.collection]
            self._store.targets[index] = state.target

    async def _check_empty(self, indexes: tuple[str, ...], target: str) -> None:
        for index in indexes:
            try:
                counts = await self._store.named(target).count(index)
            except NotFound:
                continue
            if counts != Counts(0, 0):
                raise FailedPrecondition(
                    f"The store {target!r} has {counts.live + counts.staged} chunks in an index {index!r} already, which this "
                    "retriever did not move there. Another mesh may use that server; drop them there first."
                )

    async def _total(self, indexes: tuple[str, ...], store: str) -> int:
        counts = [await self._store.named(store).count(index) for index in indexes]
        return sum(each.live + each.staged for each in counts)

    async def _copy(self, state: MoveState) -> AsyncIterator[int]:
        source, target = self._store.named(state.source), self._store.named(state.target)
        while (at := state.at) is not None:
            index, staged = at
            after = state.after
            page = await _patiently(lambda: source.page(index, staged=staged, after=after))  # noqa: B023 - called at once
            if page.chunks:
                await _patiently(lambda: target.upsert(index, page.chunks, staged=staged))  # noqa: B023 - called at once
            state = state.on(len(page.chunks), page.after)
            self._files.save(state)
            yield state.copied

    async def _catch_up(self, state: MoveState) -> AsyncIterator[None]:
        changes = self._changes[state.collection]
        for _ in range(ROUNDS):
            if len(changes) <= FEW_DOCUMENTS:
                return
            await self._copy_changed(state)
            yield

    async def _copy_changed(self, state: MoveState) -> None:
        """Every document that was written to, as it is now, in place of what was copied of it before."""
        changes = self._changes[state.collection]
        taken = changes.taken()
        documents = list(taken)
        for at in range(0, len(documents), DOCUMENTS_AT_ONCE):
            for index in state.indexes:
                await self._copy_documents(state, index, documents[at : at + DOCUMENTS_AT_ONCE])
        changes.settle(taken)

    async def _copy_documents(self, state: MoveState, index: str, documents: list[str]) -> None:
        source, target = self._store.named(state.source), self._store.named(state.target)
        await _patiently(lambda: target.delete(index, OfDocuments(tuple(documents))))
        for staged in (False, True):
            after: str | None = ""
            while after is not None:
                start = after
                page = await _patiently(
                    lambda: source.page(index, staged=staged, after=start, documents=documents)  # noqa: B023
                )
                if page.chunks:
                    await _patiently(lambda: target.upsert(index, page.chunks, staged=staged))  # noqa: B023
                after = page.after or None

    async def _compare_and_switch(self, state: MoveState, asked: int, least: float) -> Agreement:
        source, target = self._store.named(state.source), self._store.named(state.target)
        live = state.indexes[0]
        all_questions = await questions(source, live, asked, Random())  # noqa: S311 - a sample
        doubtful = await differing(live, source, target, all_questions)
        async with AsyncExitStack() as held:
            for index in state.indexes:
                await held.enter_async_context(self._store.gate(index).held())
            await self._copy_changed(state)
            await self._check_counts(state)
            still = await differing(live, source, target, doubtful)
            agreement = Agreement(len(all_questions), len(all_questions) - len(still))
            if agreement.share < least:
                raise FailedPrecondition(
                    f"The stores agree on {agreement.same} of {agreement.questions} questions, less than "
                    f"{least:.1%}: {state.source!r} goes on to serve {public(state.collection)!r}. Quantization may be "
                    "the reason."
                )
            await self._switch(state)
        log.info(
            "collection_moved", collection=state.collection, to=state.target, same=agreement.same, of=len(all_questions)
        )
        await self._clear(state, state.source)
        return agreement

    async def _check_counts(self, state: MoveState) -> None:
        for index in state.indexes:
            ours, theirs = [await self._store.named(name).count(index) for name in (state.source, state.target)]
            if ours != theirs:
                raise Corrupt(
                    f"{index!r} has {ours.live} + {ours.staged} chunks in {state.source!r} and {theirs.live} + "
                    f"{theirs.staged} in {state.target!r}. Move it back to take the copy away, and begin again."
                )

    async def _switch(self, state: MoveState) -> None:
        """One write of the catalog."""

        async def change(record: CollectionRecord) -> CollectionRecord:
            if tuple(index.index for index in record.indexes) != state.indexes:
                raise FailedPrecondition(
                    f"An index of {public(state.collection)!r} came or went while it was moved. Move it again."
                )
            for index in state.indexes:
                await self._store.named(state.target).add_fields(index, record.fields.minus(Fields()))
            return record.placed(state.target)

        await self._collections.update(state.collection, change)

    async def _take_back(self, collection: str, target: str) -> None:
        """The collection is where it shall be: a copy that was begun elsewhere goes."""
        state = self._files.load(collection)
        if state is not None and state.target != target:
            await self._clear(state, state.target)

    async def _clear(self, state: MoveState, left_in: str) -> None:
        """Removes what is left in a store that does not serve the collection, once nobody reads it any more."""
        for index in state.indexes:
            gate = self._store.gate(index)
            gate.changes = None
            self._store.targets.pop(index, None)
            await gate.older_calls()
            await self._store.named(left_in).drop_index(index)
        if (changes := self._changes.pop(state.collection, None)) is not None:
            changes.close()
        self._files.remove(state.collection)


async def _patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    """A store that has too much to do is asked again."""
    while True:
        try:
            return await call()
        except Overloaded as error:
            await asyncio.sleep(error.retry_after_s or _RETRY_S)


def _only_here(target: str) -> str:
    if target == "edge":
        return (
            "This retriever keeps its collections on the Qdrant server, where its replicas see them too. Set store = "
            '"edge" and qdrant_url: then it serves them from the server, and moves them here.'
        )
    return f"This retriever has no store {target!r}."
