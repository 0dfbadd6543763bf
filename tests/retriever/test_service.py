"""What the retriever does, over gRPC."""

import grpc
import pytest
from google.protobuf.struct_pb2 import ListValue, Value
from prometheus_client import REGISTRY

from murphey.retriever.v1 import filter_pb2
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.stored_chunks_pb2 import ReadChunksRequest
from tests.retriever.conftest import Served
from tests.retriever.fakes import DIMENSIONS, vector_of
from tests.retriever.requests import message, on, struct


async def store(served: Served, *chunks: pb.Chunk, staged: bool = False) -> pb.UpsertChunksResponse:
    return await served.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=chunks, staged=staged))


async def test_ingest_and_search(served: Served) -> None:
    chunks = [
        message(text, index=row, display_name="tea.txt")
        for row, text in enumerate(["Hot tea.", "Cold milk.", "Old cake."])
    ]
    done = await store(served, *chunks, staged=True)
    assert (done.stored, done.embedded) == (3, 3)
    search = pb.SearchRequest(text="cold milk", limit=1, neighbors=1)
    assert not (await served.stub.Search(search)).passages
    version = pb.DocumentVersion(document=chunks[0].document, version="1")
    await served.stub.PublishDocuments(pb.PublishDocumentsRequest(documents=[version]))
    response = await served.stub.Search(search)
    (passage,) = response.passages
    assert passage.chunk == chunks[1]
    assert ([c.text for c in passage.before], [c.text for c in passage.after]) == (["Hot tea."], ["Old cake."])
    assert passage.HasField("dense_score")
    assert response.index_version == done.index_version
    assert response.store_time.ToNanoseconds() > 0


@pytest.mark.parametrize("index", ["", ".", "../indexes", "/tmp", "nothing", "\u0301" * 300])
async def test_only_indexes_of_collections_are_read(served: Served, index: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await served.stub.ReadChunks(ReadChunksRequest(index=index))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_chunks_with_vectors_are_not_embedded(served: Served) -> None:
    vector = pb.Vector(values=(vector_of("something else") * 3).tolist())
    done = await store(served, message("tea", vector=vector), message("milk", index=1))
    assert (done.stored, done.embedded) == (2, 1)
    (best, _) = (
        await served.stub.Search(pb.SearchRequest(vector=pb.Vector(values=vector_of("something else").tolist())))
    ).passages
    assert best.chunk.text == "tea"
    assert best.score == pytest.approx(1, abs=1e-4)


async def test_chunks_that_read_the_same_as_a_live_one_take_its_vector(served: Served) -> None:
    vector = pb.Vector(values=vector_of("something else").tolist())
    first = message("tea", vector=vector)
    await store(served, first)
    again, other = message("tea", document="b", same_as=first.id), message("milk", document="c", same_as=first.id)
    done = await store(served, again, other, staged=True)
    assert (done.stored, done.embedded) == (2, 1)
    versions = [pb.DocumentVersion(document=chunk.document, version="1") for chunk in (again, other)]
    await served.stub.PublishDocuments(pb.PublishDocumentsRequest(documents=versions))
    passages = (await served.stub.Search(pb.SearchRequest(vector=vector, minimum_score=0.99))).passages
    assert {passage.chunk.document for passage in passages} == {first.document, again.document}


async def test_what_is_stored_is_listed_by_version(served: Served) -> None:
    await store(served, message("tea"), message("milk", index=1))
    await store(served, message("cake", document="b"), staged=True)
    stored = [v async for page in served.stub.ListStoredVersions(pb.ListStoredVersionsRequest()) for v in page.versions]
    assert sorted((v.document[-1], v.live_chunks, v.staged_chunks) for v in stored) == [("a", 2, 0), ("b", 0, 1)]


async def test_headings_are_searched(served: Served) -> None:
    await store(
        served, message("It takes four minutes.", headings=["Brewing", "Oolong"]), message("Nothing here.", index=1)
    )
    response = await served.stub.Search(pb.SearchRequest(text="oolong", mode=pb.SEARCH_MODE_SPARSE))
    assert [passage.chunk.index for passage in response.passages] == [0]


async def test_metadata_fields_can_be_filtered_and_come_back(served: Served) -> None:
    metadata = struct(year=2020, kind="memo", done=True, tags=["x", "y"], empty=None)
    await store(served, message("tea", metadata=metadata), message("tea", document="b"))
    collection = (await served.stub.GetCollection(pb.GetCollectionRequest())).collection
    known = {"metadata.year", "metadata.kind", "metadata.done", "metadata.tags", "document", "page", "display_name"}
    assert set(collection.fields) == known
    for condition in (
        on("metadata.year", match=Value(number_value=2020)),
        on("metadata.done", match=Value(bool_value=True)),
        on("metadata.tags", any_of=ListValue(values=[Value(string_value="y")])),
        on("metadata.year", range=filter_pb2.NumberRange(gte=2020)),
    ):
        (passage,) = (await served.stub.Search(pb.SearchRequest(text="tea", filter=condition))).passages
        assert passage.chunk.metadata == struct(year=2020, kind="memo", done=True, tags=["x", "y"])


async def test_minimum_score_leaves_out(served: Served) -> None:
    await store(served, message("green tea"), message("rusty nails", index=1))
    request = pb.SearchRequest(text="green tea", mode=pb.SEARCH_MODE_DENSE, minimum_score=0.9)
    assert [passage.chunk.text for passage in (await served.stub.Search(request)).passages] == ["green tea"]


async def test_only_stop_words_find_nothing_by_words(served: Served) -> None:
    await store(served, message("the tea"))
    assert not (await served.stub.Search(pb.SearchRequest(text="the", mode=pb.SEARCH_MODE_SPARSE))).passages
    assert (await served.stub.Search(pb.SearchRequest(text="the"))).passages


async def test_delete_chunks(served: Served) -> None:
    chunks = [message("tea"), message("milk", index=1), message("cake", document="b")]
    await store(served, *chunks)
    request = pb.DeleteChunksRequest(chunks=pb.ChunkIds(ids=[chunks[0].id]))
    assert (await served.stub.DeleteChunks(request)).deleted == 1
    request = pb.DeleteChunksRequest(documents=pb.DocumentNames(documents=[chunks[0].document, chunks[2].document]))
    assert (await served.stub.DeleteChunks(request)).deleted == 2
    assert (await served.stub.DeleteChunks(request)).deleted == 0


async def test_embed(served: Served) -> None:
    response = await served.stub.Embed(pb.EmbedRequest(texts=["tea", ""]))
    assert [len(vector.values) for vector in response.vectors] == [DIMENSIONS] * 2
    assert response.embedder == "words@1"


async def test_a_collection_with_another_embedder(served: Served) -> None:
    """Its chunks are embedded, and its questions asked, with its own; the others keep theirs."""
    wanted = pb.Collection(name="collections/more", embedder="more-words")
    made = (await served.stub.CreateCollection(pb.CreateCollectionRequest(collection=wanted))).collection
    assert (made.embedder, made.dimensions, made.max_embedder_tokens) == ("more-words", DIMENSIONS + 1, 128)
    await store(served, message("tea"))
    before = len(served.embedder.batches)
    chunk = message("green tea", document="b")
    chunk.document = "collections/more/documents/b"
    await served.stub.UpsertChunks(pb.UpsertChunksRequest(collection="collections/more", chunks=[chunk]))
    found = await served.stub.Search(pb.SearchRequest(collection="collections/more", text="tea"))
    assert [passage.chunk.text for passage in found.passages] == ["green tea"]
    vectors = await served.stub.Embed(pb.EmbedRequest(texts=["tea"], embedder="more-words"))
    assert (len(vectors.vectors[0].values), vectors.embedder) == (DIMENSIONS + 1, "more-words@1")
    request = pb.SearchRequest(collection="collections/more", vector=vectors.vectors[0])
    assert len((await served.stub.Search(request)).passages) == 1
    assert len(served.embedder.batches) == before


async def test_collections(served: Served) -> None:
    wanted = pb.Collection(
        name="collections/notes", language="german", chunking=pb.Chunking(chunk_tokens=32, overlap_tokens=0)
    )
    made = (await served.stub.CreateCollection(pb.CreateCollectionRequest(collection=wanted))).collection
    wanted.chunking.splitter = pb.SPLITTER_STRUCTURE
    assert (made.language, made.chunking, made.dimensions, made.max_embedder_tokens) == (
        "german",
        wanted.chunking,
        DIMENSIONS,
        64,
    )
    again = (await served.stub.CreateCollection(pb.CreateCollectionRequest(collection=wanted))).collection
    assert again == made
    other = pb.Collection(name="collections/notes", language="french")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.stub.CreateCollection(pb.CreateCollectionRequest(collection=other))
    assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS
    first = await served.stub.ListCollections(pb.ListCollectionsRequest(page_size=1))
    rest = await served.stub.ListCollections(pb.ListCollectionsRequest(page_token=first.next_page_token))
    assert [each.name for each in (*first.collections, *rest.collections)] == [
        "collections/default",
        "collections/notes",
    ]
    assert not rest.next_page_token
    for _ in range(2):
        await served.stub.DeleteCollection(pb.DeleteCollectionRequest(name="collections/notes"))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.stub.GetCollection(pb.GetCollectionRequest(name="collections/notes"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


async def test_searches_are_measured(served: Served) -> None:
    def seen(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"murphey_{name}", labels) or 0.0

    def measures() -> dict[str, float]:
        return {
            "embed": seen("search_stage_seconds_count", stage="embed"),
            "store": seen("search_stage_seconds_count", stage="store"),
            "scored": seen("search_top_score_count", mode="hybrid"),
            "score": seen("search_top_score_sum", mode="hybrid"),
            "empty": seen("search_empty_total", mode="hybrid"),
        }

    before = measures()
    await served.stub.Search(pb.SearchRequest(text="measured tea"))
    await served.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=[message("Measured tea.")]))
    found = await served.stub.Search(pb.SearchRequest(text="measured tea"))
    grown = {name: value - before[name] for name, value in measures().items()}
    assert grown == {
        "embed": 2, "store": 2, "scored": 1, "empty": 1, "score": pytest.approx(found.passages[0].dense_score, abs=1e-6)
    }  # fmt: skip


@pytest.mark.parametrize("staged", [True, False])
async def test_a_collection_that_holds_chunks_is_deleted_only_by_force(served: Served, staged: bool) -> None:
    await served.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=[message("Kept words.")], staged=staged))
    request = pb.DeleteCollectionRequest(name="collections/default")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.stub.DeleteCollection(request)
    there = (await served.stub.GetCollection(pb.GetCollectionRequest())).collection
    request.force = True
    await served.stub.DeleteCollection(request)
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await served.stub.GetCollection(pb.GetCollectionRequest())

    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "holds 1 chunks" in str(error.value.details())
    assert "murphey documents delete --all --collection default" in str(error.value.details())
    assert there.chunk_count + there.staged_chunk_count == 1
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND
