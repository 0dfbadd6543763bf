"""Rerank, and searches whose passages are ordered anew, over gRPC."""

import asyncio

import grpc
import pytest

from murphey.retriever.v1 import retriever_pb2 as pb
from tests.retriever.conftest import Served
from tests.retriever.fakes import vector_of
from tests.retriever.requests import message

TEXTS = ["cold milk", "tea", "hot tea with milk", "cake"]


async def test_texts_come_the_best_first_and_equal_ones_in_their_order(served: Served) -> None:
    response = await served.stub.Rerank(pb.RerankRequest(query="hot tea", texts=TEXTS))
    assert [(ranked.index, ranked.score) for ranked in response.ranked] == [(2, 2.0), (1, 1.0), (0, 0.0), (3, 0.0)]
    assert response.reranker == "shared-words@7"
    assert response.rerank_time.ToNanoseconds() > 0
    best = await served.stub.Rerank(pb.RerankRequest(query="hot tea", texts=TEXTS, limit=1, reranker="shared-words"))
    assert [ranked.index for ranked in best.ranked] == [2]


async def test_a_reranker_is_opened_once_and_one_that_failed_is_tried_again(served: Served) -> None:
    ask = pb.RerankRequest(query="tea", texts=TEXTS)
    await asyncio.gather(*(served.stub.Rerank(ask) for _ in range(4)))
    assert [reranker.name for reranker in served.rerankers.opened] == ["shared-words"]
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.stub.Rerank(pb.RerankRequest(query="tea", texts=TEXTS, reranker="broken"))
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert [reranker.name for reranker in served.rerankers.opened] == ["shared-words", "broken", "broken"]


async def test_beyond_a_bound_calls_are_refused_until_those_before_have_ended(served: Served) -> None:
    await served.stub.Rerank(pb.RerankRequest(query="tea", texts=["tea"]))
    (reranker,) = served.rerankers.opened
    reranker.may_run.clear()
    reranker.started.clear()
    held = asyncio.ensure_future(served.stub.Rerank(pb.RerankRequest(query="tea", texts=["tea"] * 90)))
    await reranker.started.wait()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.stub.Rerank(pb.RerankRequest(query="tea", texts=["tea"] * 11))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    reranker.may_run.set()
    assert len((await held).ranked) == 90
    assert len((await served.stub.Rerank(pb.RerankRequest(query="tea", texts=["tea"] * 100))).ranked) == 100


async def test_a_deadline_ends_the_call_and_not_the_reranker(served: Served) -> None:
    await served.stub.Rerank(pb.RerankRequest(query="tea", texts=["tea"]))
    (reranker,) = served.rerankers.opened
    reranker.may_run.clear()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.stub.Rerank(pb.RerankRequest(query="tea", texts=["tea"]), timeout=0.2)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    reranker.may_run.set()
    assert len((await served.stub.Rerank(pb.RerankRequest(query="tea", texts=["tea"]))).ranked) == 1


async def store_texts(served: Served, *texts: str) -> None:
    chunks = [message(text, document=f"d{row}") for row, text in enumerate(texts)]
    await served.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=chunks))


async def found(served: Served, question: str, **wishes: object) -> list[pb.Passage]:
    request = pb.SearchRequest(text=question, **wishes)  # pyright: ignore[reportArgumentType]
    return list((await served.stub.Search(request)).passages)


async def test_a_search_is_ordered_by_the_reranker_as_far_as_it_reads(served: Served) -> None:
    await store_texts(served, "one two three.", "one two six seven.", "one eight nine ten.", "eleven twelve.")
    plain = await found(served, "one two three")
    reranked = await found(served, "one two three", reranking=pb.Reranking(passages=2))
    assert served.rerankers.opened[0].read == [2]
    assert {passage.chunk.id for passage in reranked[:2]} == {passage.chunk.id for passage in plain[:2]}
    assert [passage.rerank_score for passage in reranked[:2]] == [3.0, 2.0]
    assert [passage.chunk.id for passage in reranked[2:]] == [passage.chunk.id for passage in plain[2:]]
    assert not any(passage.HasField("rerank_score") for passage in (*plain, *reranked[2:]))


async def test_more_is_read_than_is_given_back(served: Served) -> None:
    await store_texts(served, *(f"tea {'leaf ' * row}" for row in range(12)))
    request = pb.SearchRequest(text="tea leaf", limit=3, reranking=pb.Reranking(passages=10))
    response = await served.stub.Search(request)
    assert served.rerankers.opened[0].read == [10]
    assert len(response.passages) == 3
    assert response.reranker == "shared-words@7"
    assert response.rerank_time.ToNanoseconds() > 0
    again = await served.stub.Search(request)
    assert (again.cached, again.reranker, again.HasField("rerank_time")) == (True, "shared-words@7", False)
    assert again.passages == response.passages


async def test_nothing_found_is_not_reranked(served: Served) -> None:
    assert await found(served, "tea", reranking=pb.Reranking()) == []
    assert served.rerankers.opened == []


async def test_diversity_passes_over_what_was_said(served: Served) -> None:
    await store_texts(served, "hot tea.", "hot tea. hot tea.", "hot tea. tea hot.", "hot milk.")
    plain = [passage.chunk.text for passage in await found(served, "hot tea", limit=2)]
    assert "hot milk." not in plain
    (first, second) = await found(served, "hot tea", limit=2, diversity=0.9)
    assert (first.chunk.text in plain, second.chunk.text) == (True, "hot milk.")
    assert len(await found(served, "hot tea", diversity=1)) == 4


async def test_diversity_holds_for_a_vector_too(served: Served) -> None:
    await store_texts(served, "hot tea.", "hot tea. hot tea.", "hot milk.")
    vector = pb.Vector(values=vector_of("hot tea").tolist())
    response = await served.stub.Search(pb.SearchRequest(vector=vector, limit=2, diversity=0.9))
    assert response.passages[1].chunk.text == "hot milk."
