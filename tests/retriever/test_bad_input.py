"""What the retriever says to bad input: a clear status that names what was wrong, and it goes on serving."""

# ruff: noqa: E501 - a table, one case a line

import asyncio
import math

import grpc
import pytest
from google.protobuf.struct_pb2 import ListValue, Value
from httpx import Headers
from qdrant_client.http.exceptions import UnexpectedResponse

from mesh.errors import Unavailable
from murphey.retriever.v1 import filter_pb2
from murphey.retriever.v1 import retriever_pb2 as pb
from retriever.stores.server.qdrant import translated
from tests.retriever.conftest import Served
from tests.retriever.fakes import DIMENSIONS
from tests.retriever.requests import message, on, struct

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
FAILED, UNAVAILABLE = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE
NAN = math.nan
DEEP = filter_pb2.Filter()
for _ in range(9):
    DEEP = filter_pb2.Filter(must=[filter_pb2.Condition(filter=DEEP)])
OTHER = "collections/other/documents/a"
BAD = [
    ("Search", pb.SearchRequest(text=""), INVALID, "question is empty"),
    ("Search", pb.SearchRequest(text=" \n "), INVALID, "question is empty"),
    ("Search", pb.SearchRequest(), INVALID, "question is empty"),
    ("Search", pb.SearchRequest(text="x" * 1_000_000), INVALID, "1,000,000 characters; 32,768"),
    ("Search", pb.SearchRequest(text="x", limit=-1), INVALID, "limit is -1"),
    ("Search", pb.SearchRequest(text="x", limit=0), INVALID, "limit is 0"),
    ("Search", pb.SearchRequest(text="x", limit=1001), INVALID, "limit is 1001"),
    ("Search", pb.SearchRequest(text="x", neighbors=-1), INVALID, "neighbors is -1"),
    ("Search", pb.SearchRequest(text="x", minimum_score=NAN), INVALID, "minimum_score is nan"),
    ("Search", pb.SearchRequest(text="x", mode=9), INVALID, "no search mode 9"),  # pyright: ignore[reportArgumentType]
    ("Search", pb.SearchRequest(text="x", collection="collections/none"), NOT_FOUND, "'none'"),
    ("Search", pb.SearchRequest(text="x", collection="none"), INVALID, "collections/ID"),
    ("Search", pb.SearchRequest(vector=pb.Vector(values=[1.0])), INVALID, "1 numbers; the embedder has 32"),
    ("Search", pb.SearchRequest(vector=pb.Vector(values=[NAN] * DIMENSIONS)), INVALID, "finite"),
    ("Search", pb.SearchRequest(vector=pb.Vector(values=[math.inf] * DIMENSIONS)), INVALID, "finite"),
    ("Search", pb.SearchRequest(vector=pb.Vector(values=[0.0] * DIMENSIONS)), INVALID, "not all 0"),
    ("Search", pb.SearchRequest(vector=pb.Vector(values=[1.0] * DIMENSIONS), mode=pb.SEARCH_MODE_HYBRID), INVALID, "dense mode"),
    ("Search", pb.SearchRequest(text="x", filter=on("metadata.nope", match=Value(bool_value=True))), INVALID, "Known fields: display_name, document, metadata.year, page"),
    ("Search", pb.SearchRequest(text="x", filter=on("text", match=Value(string_value="x"))), INVALID, "'text'"),
    ("Search", pb.SearchRequest(text="x", filter=on("metadata.year", range=filter_pb2.NumberRange())), INVALID, "bound"),
    ("Search", pb.SearchRequest(text="x", filter=on("metadata.year", range=filter_pb2.NumberRange(gt=NAN))), INVALID, "NaN"),
    ("Search", pb.SearchRequest(text="x", filter=on("metadata.year", match=Value(number_value=0.5))), INVALID, "whole number"),
    ("Search", pb.SearchRequest(text="x", filter=on("metadata.year", any_of=ListValue())), INVALID, "0 items"),
    ("Search", pb.SearchRequest(text="x", filter=on("metadata.year", time_range=filter_pb2.TimeRange())), INVALID, "bound"),
    ("Search", pb.SearchRequest(text="x", filter=on("metadata.year")), INVALID, "no test"),
    ("Search", pb.SearchRequest(text="x", filter=filter_pb2.Filter(should=[filter_pb2.Condition()])), INVALID, "empty"),
    ("Search", pb.SearchRequest(text="x", filter=DEEP), INVALID, "more than 8 deep"),
    ("Search", pb.SearchRequest(text="x", diversity=1.5), INVALID, "diversity is 1.5"),
    ("Search", pb.SearchRequest(text="x", diversity=NAN), INVALID, "diversity is nan"),
    ("Search", pb.SearchRequest(text="x", reranking=pb.Reranking(passages=201)), INVALID, "reranking.passages is 201"),
    ("Search", pb.SearchRequest(text="x", reranking=pb.Reranking(reranker="nope")), INVALID, "no reranker 'nope'; it has 'shared-words', 'broken'"),
    ("Search", pb.SearchRequest(text="tea", reranking=pb.Reranking(reranker="broken")), FAILED, "it is broken"),
    ("Search", pb.SearchRequest(vector=pb.Vector(values=[1.0] * DIMENSIONS), reranking=pb.Reranking()), INVALID, "reads the question"),
    ("Rerank", pb.RerankRequest(texts=["x"]), INVALID, "question is empty"),
    ("Rerank", pb.RerankRequest(query="x"), INVALID, "0 items"),
    ("Rerank", pb.RerankRequest(query="x", texts=["x"] * 1_001), INVALID, "1001 items"),
    ("Rerank", pb.RerankRequest(query="x", texts=["x" * 65_537]), INVALID, "65,537"),
    ("Rerank", pb.RerankRequest(query="x", texts=["x"], limit=-1), INVALID, "limit is -1"),
    ("Rerank", pb.RerankRequest(query="x", texts=["x"], reranker="nope"), INVALID, "no reranker 'nope'; it has 'shared-words', 'broken'"),
    ("Rerank", pb.RerankRequest(query="x", texts=["x"], reranker="broken"), FAILED, "it is broken"),
    ("Rerank", pb.RerankRequest(query="crash", texts=["x"]), UNAVAILABLE, "reranker stopped"),
    ("UpsertChunks", pb.UpsertChunksRequest(), INVALID, "0 items"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", id="7")]), INVALID, "'7' is not a UUID"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", document="../a")]), INVALID, "not a document's name"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", collection="other")]), INVALID, "not of the collection"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", version="")]), INVALID, "version is missing"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("")]), INVALID, "0 characters"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x" * 65_537)]), INVALID, "65,537 characters"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", index=-1)]), INVALID, "negative"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", span=pb.Span(start=2, end=1))]), INVALID, "backwards"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x"), message("y")]), INVALID, "same id"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", metadata=struct(a={"b": 1}))]), INVALID, "strings, numbers"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", metadata=struct(a=NAN))]), INVALID, "nan"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", metadata=struct(**{'a"b': 1}))]), INVALID, "metadata key"),
    ("UpsertChunks", pb.UpsertChunksRequest(chunks=[message("x", vector=pb.Vector(values=[NAN] * DIMENSIONS))]), INVALID, "finite"),
    ("PublishDocuments", pb.PublishDocumentsRequest(), INVALID, "0 items"),
    ("PublishDocuments", pb.PublishDocumentsRequest(documents=[pb.DocumentVersion(document=OTHER, version="1")]), INVALID, "not of the collection"),
    ("DeleteChunks", pb.DeleteChunksRequest(), INVALID, "Say what to delete"),
    ("DeleteChunks", pb.DeleteChunksRequest(chunks=pb.ChunkIds()), INVALID, "0 items"),
    ("Embed", pb.EmbedRequest(), INVALID, "0 items"),
    ("Embed", pb.EmbedRequest(texts=["x" * 65_537]), INVALID, "65,537"),
    ("CreateCollection", pb.CreateCollectionRequest(), INVALID, "name is missing"),
    ("CreateCollection", pb.CreateCollectionRequest(collection=pb.Collection(name="collections/A")), INVALID, "lower-case"),
    ("CreateCollection", pb.CreateCollectionRequest(collection=pb.Collection(name="collections/a", language="klingon")), INVALID, "klingon"),
    ("CreateCollection", pb.CreateCollectionRequest(collection=pb.Collection(name="collections/a", embedder="gpt")), INVALID, "it has 'words'"),
    ("CreateCollection", pb.CreateCollectionRequest(collection=pb.Collection(name="collections/a", embedder="broken")), FAILED, "it is broken"),
    ("Embed", pb.EmbedRequest(texts=["x"], embedder="gpt"), INVALID, "it has 'words', 'broken', 'more-words'"),
    ("CreateCollection", pb.CreateCollectionRequest(collection=pb.Collection(name="collections/a", chunking=pb.Chunking(chunk_tokens=65))), INVALID, "16 to 64"),
    ("CreateCollection", pb.CreateCollectionRequest(collection=pb.Collection(name="collections/a", chunking=pb.Chunking(overlap_tokens=60))), INVALID, "0 to 32"),
    ("GetCollection", pb.GetCollectionRequest(name="collections/none"), NOT_FOUND, "'none'"),
    ("ListCollections", pb.ListCollectionsRequest(page_size=-1), INVALID, "page_size is -1"),
    ("ListCollections", pb.ListCollectionsRequest(page_token="?"), INVALID, "page_token"),  # noqa: S106 - not a password
    ("DeleteCollection", pb.DeleteCollectionRequest(), INVALID, "name is missing"),
]  # fmt: skip


async def test_bad_input_is_named(served: Served) -> None:
    good = message("tea", document="year", metadata=struct(year=2020))
    await served.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=[good]))
    for method, request, code, words in BAD:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await getattr(served.stub, method)(request)
        assert (error.value.code(), words in (error.value.details() or "")) == (code, True), (
            method,
            words,
            error.value,
        )
    assert len((await served.stub.Search(pb.SearchRequest(text="tea"))).passages) == 1


async def test_chunks_for_a_collection_that_is_deleted_meanwhile_are_not_found(served: Served) -> None:
    name = "collections/brief"
    await served.stub.CreateCollection(pb.CreateCollectionRequest(collection=pb.Collection(name=name)))
    served.embedder.started.clear()
    served.embedder.may_run.clear()
    chunks = [message("tea", collection="brief", metadata=struct(new=1))]
    sending = served.stub.UpsertChunks(pb.UpsertChunksRequest(collection=name, chunks=chunks))
    assert await asyncio.to_thread(served.embedder.started.wait, 30)
    await served.stub.DeleteCollection(pb.DeleteCollectionRequest(name=name, force=True))
    served.embedder.may_run.set()

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await sending
    assert raised.value.code() == NOT_FOUND


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_before_a_qdrant_server_that_is_away_says_so(status: int) -> None:
    with pytest.raises(Unavailable), translated("index"):
        raise UnexpectedResponse(status, "Bad Gateway", b"", Headers())
