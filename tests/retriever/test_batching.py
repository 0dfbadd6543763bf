"""Calls share the embedder: batched, in order of urgency, and never without bound."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from mesh.access import identity
from mesh.access.identity import Identity
from mesh.caching import ByteCache, Use
from mesh.errors import Overloaded
from retriever.batching import MANY_QUERIES, MAX_BATCH_QUERIES, EmbeddingQueue
from retriever.embedding import Purpose, Vectors
from retriever.query_vectors import QueryVectors
from tests.retriever.fakes import WordsEmbedder, vector_of

LONG = "word " * 200


async def started(embedder: WordsEmbedder) -> None:
    """Waits until the embedder has begun a batch."""
    assert await asyncio.to_thread(embedder.started.wait, 10)
    embedder.started.clear()


async def blocked(queue: EmbeddingQueue, embedder: WordsEmbedder) -> "asyncio.Task[Vectors]":
    """A query that holds the embedder until `may_run` is set."""
    embedder.may_run.clear()
    task = asyncio.create_task(queue.embed(["first"], Purpose.QUERY))
    await started(embedder)
    return task


async def test_each_gets_what_it_would_get_alone() -> None:
    queue = EmbeddingQueue(WordsEmbedder())
    texts = [f"text {number} {'more ' * (number % 7)}" for number in range(100)]
    documents, *queries = await asyncio.gather(
        queue.embed(texts, Purpose.DOCUMENT), *[queue.embed([text], Purpose.QUERY) for text in texts]
    )
    expected = np.stack([vector_of(text) for text in texts])
    np.testing.assert_array_equal(documents, expected)
    np.testing.assert_array_equal(np.concatenate(queries), expected)
    await queue.close()


async def test_a_lone_query_does_not_wait() -> None:
    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder)
    await queue.embed(["one"], Purpose.QUERY)
    assert embedder.batches == [(Purpose.QUERY, 1)]
    await queue.close()


async def test_waiting_queries_go_together() -> None:
    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder)
    first = await blocked(queue, embedder)
    others = [asyncio.create_task(queue.embed([f"{number}"], Purpose.QUERY)) for number in range(MAX_BATCH_QUERIES + 3)]
    await asyncio.sleep(0)
    embedder.may_run.set()
    await asyncio.gather(first, *others)
    assert [size for _, size in embedder.batches] == [1, MAX_BATCH_QUERIES, 3]
    await queue.close()


async def test_many_that_wait_go_in_a_second_batch_beside_the_first() -> None:
    embedder = WordsEmbedder(slices_at_once=2)
    queue = EmbeddingQueue(embedder)
    first = await blocked(queue, embedder)
    others = [asyncio.create_task(queue.embed([f"{number}"], Purpose.QUERY)) for number in range(MANY_QUERIES)]
    await started(embedder)
    assert [size for _, size in embedder.batches] == [1, MANY_QUERIES]
    embedder.may_run.set()
    await asyncio.gather(first, *others)
    await queue.close()


async def test_a_query_waits_for_one_slice_of_a_long_batch() -> None:
    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder)
    embedder.may_run.clear()
    batch = asyncio.create_task(queue.embed([LONG] * 50, Purpose.DOCUMENT))
    await started(embedder)
    query = asyncio.create_task(queue.embed(["urgent"], Purpose.QUERY))
    await asyncio.sleep(0)
    embedder.may_run.set()
    await query
    assert not batch.done()
    assert [purpose for purpose, _ in embedder.batches][:2] == [Purpose.DOCUMENT, Purpose.QUERY]
    assert len(await batch) == 50
    await queue.close()


async def test_a_query_runs_beside_the_slices_and_before_those_to_come() -> None:
    embedder = WordsEmbedder(slices_at_once=2)
    queue = EmbeddingQueue(embedder)
    embedder.may_run.clear()
    batch = asyncio.create_task(queue.embed([LONG] * 50, Purpose.DOCUMENT))
    async with asyncio.timeout(30):
        while len(embedder.batches) < 2:  # noqa: ASYNC110 - threads say nothing when they begin
            await asyncio.sleep(0.001)
        query = asyncio.create_task(queue.embed(["urgent"], Purpose.QUERY))
        while len(embedder.batches) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert [purpose for purpose, _ in embedder.batches] == [Purpose.DOCUMENT, Purpose.DOCUMENT, Purpose.QUERY]
    embedder.may_run.set()
    await query
    assert not batch.done()
    np.testing.assert_array_equal(await batch, np.stack([vector_of(LONG)] * 50))
    await queue.close()


async def test_a_short_batch_does_not_wait_for_a_long_one() -> None:
    queue = EmbeddingQueue(WordsEmbedder())
    long = asyncio.create_task(queue.embed([LONG] * 200, Purpose.DOCUMENT))
    await asyncio.sleep(0)
    await queue.embed([LONG], Purpose.DOCUMENT)
    assert not long.done()
    await long
    await queue.close()


async def test_too_much_is_refused_at_once() -> None:
    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder, max_waiting_texts=10)
    first = await blocked(queue, embedder)
    second = asyncio.create_task(queue.embed(["x"] * 9, Purpose.DOCUMENT))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await queue.embed(["y"], Purpose.DOCUMENT)
    assert refused.value.retry_after_s
    embedder.may_run.set()
    await asyncio.gather(first, second)
    await queue.embed(["y"], Purpose.DOCUMENT)
    await queue.close()


async def test_texts_of_callers_that_left_are_not_embedded() -> None:
    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder)
    first = await blocked(queue, embedder)
    gone = asyncio.create_task(queue.embed(["gone"], Purpose.QUERY))
    stays = asyncio.create_task(queue.embed(["stays"], Purpose.QUERY))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    embedder.may_run.set()
    await asyncio.gather(first, stays)
    assert embedder.batches == [(Purpose.QUERY, 1), (Purpose.QUERY, 1)]
    await queue.close()


async def test_a_failure_reaches_its_callers_and_no_others() -> None:
    class Failing(WordsEmbedder):
        def embed(self, texts, purpose):
            if "bad" in texts:
                raise ValueError("bad text")
            return super().embed(texts, purpose)

    queue = EmbeddingQueue(Failing())
    with pytest.raises(ValueError, match="bad text"):
        await queue.embed(["bad"], Purpose.DOCUMENT)
    assert len(await queue.embed(["good"], Purpose.DOCUMENT)) == 1
    await queue.close()


async def test_nothing_to_embed() -> None:
    queue = EmbeddingQueue(WordsEmbedder())
    assert (await queue.embed([], Purpose.DOCUMENT)).shape == (0, WordsEmbedder.dimensions)
    await queue.close()


async def test_what_was_embedded_for_a_caller_that_left_is_not_embedded_again() -> None:
    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder)
    texts = [f"{number} {LONG * 4}" for number in range(4)]  # each a slice of its own
    embedder.may_run.clear()
    gone = asyncio.create_task(queue.embed(texts, Purpose.DOCUMENT))
    await started(embedder)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    embedder.may_run.set()

    await queue.embed(["the slice under way has ended when this has"], Purpose.QUERY)

    again = await queue.embed([*texts, "more"], Purpose.DOCUMENT)

    assert sum(count for purpose, count in embedder.batches if purpose is Purpose.DOCUMENT) == len(texts) + 1
    assert np.allclose(again, [vector_of(text) for text in [*texts, "more"]], atol=1e-6)
    await queue.close()


async def test_what_a_killed_process_had_embedded_is_not_embedded_again(tmp_path: Path) -> None:
    texts = [f"{number} {LONG}" for number in range(12)]
    killed = WordsEmbedder()
    before = EmbeddingQueue(killed, leftovers=tmp_path / "vectors")
    expected = await before.embed(texts[:8], Purpose.DOCUMENT)  # and never said to be stored
    torn = (tmp_path / "vectors").read_bytes()
    (tmp_path / "vectors").write_bytes(torn + b"cut off")

    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder, leftovers=tmp_path / "vectors")
    np.testing.assert_array_equal((await queue.embed(texts, Purpose.DOCUMENT))[:8], expected)
    assert sum(size for _, size in embedder.batches) == 4
    queue.stored(texts)
    assert (tmp_path / "vectors").read_bytes() == b""
    await queue.embed(texts, Purpose.DOCUMENT)
    assert sum(size for _, size in embedder.batches) == 16
    await before.close()
    await queue.close()


async def test_what_one_tenant_has_sent_makes_no_other_faster(tmp_path: Path) -> None:
    texts = [f"{number} {LONG}" for number in range(4)]
    embedder = WordsEmbedder()
    queue = EmbeddingQueue(embedder, leftovers=tmp_path / "vectors")
    cached = QueryVectors(ByteCache("queries", 100_000))
    for tenant, made in (("acme", 5), ("rival", 10), ("acme", 10)):
        token = identity.current.set(Identity("key", tenant, frozenset()))
        await queue.embed(texts, Purpose.DOCUMENT)  # and never said to be stored
        await cached.of_query(queue, "the same question", Use())
        identity.current.reset(token)
        assert sum(size for _, size in embedder.batches) == made
    await queue.close()
