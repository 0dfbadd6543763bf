"""What interrupts a move or makes it fail leaves the collection where it was, whole, and nothing behind."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from mesh.errors import Corrupt, FailedPrecondition, NotFound, Unavailable
from retriever.moving.mover import Phase
from retriever.stores.base import Counts, OfDocuments
from tests.retriever.fakes import WordsEmbedder, chunk, document_name, indexed
from tests.retriever.moves import Retriever, opened

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")]


async def test_an_interrupted_move_goes_on_where_it_stopped(tmp_path: Path, qdrant: AsyncQdrantClient) -> None:
    async with opened(tmp_path, qdrant) as first:
        await first.put(*range(600))
        moving = first.mover.move("default", "server", questions_asked=20, least_agreement=0.99)
        progress = await anext(moving)
        await moving.aclose()
        assert 0 < progress.copied < 600
        await first.put(700)  # noted, though nobody copies now
    async with opened(tmp_path, qdrant) as second:
        assert len(await second.ask("harbor")) == 10  # from where it was
        await second.store.delete(second.index, OfDocuments((document_name("d0"),)))
        again = await second.move("server")
        assert again[0].copied > progress.copied
        there = {document for document, _ in await second.there("server")}
        assert there == {f"d{number}" for number in [*range(1, 600), 700]}


async def test_a_restart_after_the_switch_removes_what_is_left(
    tmp_path: Path, qdrant: AsyncQdrantClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, qdrant) as first:
        await first.put(1)
        edge = first.store.named("edge")

        async def killed(index: str) -> None:
            raise Unavailable("The process is gone.")

        monkeypatch.setattr(edge, "drop_index", killed)
        with pytest.raises(Unavailable):
            await first.move("server")
        assert (await first.collections.get("default")).store == "server"
    async with opened(tmp_path, qdrant) as second:
        assert await second.store.count(second.index) == Counts(1, 0)
        with pytest.raises(NotFound):
            await second.store.named("edge").count(second.index)
        await second.move("edge")
        assert await second.store.count(second.index) == Counts(1, 0)


async def test_back_to_where_it_is_takes_the_copy_away(filled: Retriever) -> None:
    moving = filled.mover.move("default", "server", questions_asked=20, least_agreement=0.99)
    await anext(moving)
    await moving.aclose()
    assert (await filled.store.named("server").count(filled.index)).live
    assert [each.phase for each in await filled.move("edge")] == [Phase.DONE]
    with pytest.raises(NotFound):
        await filled.store.named("server").count(filled.index)
    await filled.put(800)  # nobody notes it any more
    assert await filled.store.count(filled.index) == Counts(301, 10)


async def test_stores_that_do_not_agree_are_not_switched(filled: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filled.store.named("server"), "search", _finds_nothing)
    with pytest.raises(FailedPrecondition, match="agree on 0 of 50"):
        await filled.move("server")
    assert (await filled.collections.get("default")).store == ""
    assert await filled.ask("harbor")
    await filled.put(900)  # writers wait no longer
    await filled.move("server", agreement=0.0)
    assert await filled.store.count(filled.index) == Counts(301, 10)


async def _finds_nothing(*_: object) -> list[object]:
    return []


async def test_a_copy_that_lost_a_chunk_is_not_switched_to(filled: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(index: str) -> Counts:
        return Counts(299, 10)

    target = filled.store.named("server")
    with monkeypatch.context() as patched:
        moving = filled.mover.move("default", "server", questions_asked=5, least_agreement=0.0)
        with pytest.raises(Corrupt, match="299"):
            async for progress in moving:
                if progress.phase is Phase.COMPARING:
                    patched.setattr(target, "count", lost)
    assert (await filled.collections.get("default")).store == ""


async def test_a_caller_that_leaves_at_the_switch_leaves_it_whole(filled: Retriever) -> None:
    async def move() -> None:
        async for progress in filled.mover.move("default", "server", questions_asked=50, least_agreement=0.99):
            if progress.phase is Phase.COMPARING:
                asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(move())
    with suppress(asyncio.CancelledError):
        await task
    await filled.mover.close()  # waits for what cannot be broken off
    assert (await filled.collections.get("default")).store == "server"
    assert await filled.store.count(filled.index) == Counts(300, 10)


async def test_chunks_of_another_mesh_are_let_alone(filled: Retriever) -> None:
    other = filled.store.named("server")
    await other.create_index(filled.index, WordsEmbedder.dimensions)
    await other.upsert(filled.index, [indexed(chunk("not ours", "x"))], staged=False)
    with pytest.raises(FailedPrecondition, match="Another mesh may use that server"):
        await filled.move("server")
    assert await other.count(filled.index) == Counts(1, 0)
