"""`murphey search` and `murphey collections`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.markup import escape

from mesh import place_messages, terminal
from mesh.deadline import call_options
from mesh.discovery import channel_for
from mesh.errors import FailedPrecondition, translated
from mesh.filter_text import FilterOption, read_filter
from mesh.names import collection_id
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, RerankerOption, RerankOption, TargetOption
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

TIMEOUT_S = 60.0
PREPARE_TIMEOUT_S = 600.0
"""An embedder is converted for this machine when it is named for the first time."""
collections = typer.Typer(
    name="collections", help="Sets of documents that are searched together.", no_args_is_help=True
)


class ModeName(StrEnum):
    """Names of the search modes."""

    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


class SplitterName(StrEnum):
    """Names of the splitters."""

    STRUCTURE = "structure"
    RECURSIVE = "recursive"
    SENTENCE = "sentence"


CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="Collection to search.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The collection's name.")]


def register(root: typer.Typer) -> None:
    """Adds the retriever's commands to `murphey`."""
    root.command("search")(search)
    root.add_typer(collections)


def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for.")],
    collection: CollectionOption = "default",
    limit: Annotated[int, typer.Option("--limit", "-n", help="Passages at most, 1 to 1,000.")] = 10,
    mode: Annotated[ModeName, typer.Option("--mode", help="By words, by meaning, or both.")] = ModeName.HYBRID,
    rerank: RerankOption = False,
    reranker: RerankerOption = "",
    diversity: Annotated[
        float, typer.Option("--diversity", min=0, max=1, help="Passes over what better passages say: 0 never, 1 most.")
    ] = 0.0,
    filters: FilterOption = None,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the passages that fit a question best."""

    async def find() -> pb.SearchResponse:
        request = pb.SearchRequest(
            collection=_name(collection),
            text=question,
            limit=limit,
            mode=f"SEARCH_MODE_{mode.name}",
            filter=read_filter(filters),
            reranking=pb.Reranking(reranker=reranker) if rerank or reranker else None,
            diversity=diversity,
        )
        async with _retriever(data, target) as retriever:
            return await retriever.Search(request, **call_options(TIMEOUT_S))

    response = terminal.run(find())
    if as_json:
        terminal.print_json({"passages": [_passage(passage) for passage in response.passages]})
    else:
        _print_passages(response)


@collections.command("list")
def list_collections(data: DataOption = DEFAULT_DATA, target: TargetOption = None, as_json: JsonOption = False) -> None:
    """List the collections."""

    async def read() -> list[pb.Collection]:
        found: list[pb.Collection] = []
        token = ""
        async with _retriever(data, target) as retriever:
            while True:
                page = await retriever.ListCollections(
                    pb.ListCollectionsRequest(page_token=token), **call_options(TIMEOUT_S)
                )
                found.extend(page.collections)
                token = page.next_page_token
                if not token:
                    return found

    found = terminal.run(read())
    if as_json:
        terminal.print_json({"collections": [_collection(each) for each in found]})
        return
    terminal.print_table(
        ("collection", "chunks", "staged", "embedder", "language"),
        (
            [_id(each), str(each.chunk_count), str(each.staged_chunk_count), each.embedder, each.language]
            for each in found
        ),
    )


@collections.command("create")
def create_collection(
    name: NameArgument,
    embedder: Annotated[
        str, typer.Option("--embedder", help="Its embedder, such as multilingual-e5-small; empty is the default one.")
    ] = "",
    language: Annotated[str, typer.Option("--language", help="Language of its words, such as german, or auto.")] = "",
    chunk_tokens: Annotated[int, typer.Option("--chunk-tokens", help="Tokens in a chunk; 0 is the default.")] = 0,
    overlap_tokens: Annotated[
        int | None, typer.Option("--chunk-overlap", "--overlap-tokens", help="Tokens that neighbours share.")
    ] = None,
    splitter: Annotated[SplitterName | None, typer.Option("--splitter", help="Where text is split.")] = None,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a collection. The same again is no error."""
    chunking = pb.Chunking(chunk_tokens=chunk_tokens, overlap_tokens=overlap_tokens)
    if splitter is not None:
        chunking.splitter = f"SPLITTER_{splitter.name}"  # pyright: ignore[reportAttributeAccessIssue] - protobuf takes names
    wanted = pb.Collection(name=_name(name), language=language, chunking=chunking, embedder=embedder)

    async def create() -> pb.Collection:
        async with _retriever(data, target) as retriever:
            request = pb.CreateCollectionRequest(collection=wanted)
            return (await retriever.CreateCollection(request, **call_options(PREPARE_TIMEOUT_S))).collection

    _print_collection(terminal.run(create()), as_json)


@collections.command("show")
def show_collection(
    name: NameArgument, data: DataOption = DEFAULT_DATA, target: TargetOption = None, as_json: JsonOption = False
) -> None:
    """Show a collection's settings, size and fields."""

    async def read() -> pb.Collection:
        async with _retriever(data, target) as retriever:
            request = pb.GetCollectionRequest(name=_name(name))
            return (await retriever.GetCollection(request, **call_options(TIMEOUT_S))).collection

    _print_collection(terminal.run(read()), as_json)


@collections.command("delete")
def delete_collection(
    name: NameArgument, data: DataOption = DEFAULT_DATA, target: TargetOption = None, as_json: JsonOption = False
) -> None:
    """Delete a collection whose documents have been deleted."""

    async def delete() -> None:
        async with _retriever(data, target) as retriever:
            read = pb.GetCollectionRequest(name=_name(name))
            found = (await retriever.GetCollection(read, **call_options(TIMEOUT_S))).collection
            _check_empty(found)
            await retriever.DeleteCollection(pb.DeleteCollectionRequest(name=_name(name)), **call_options(TIMEOUT_S))

    terminal.run(delete())
    if as_json:
        terminal.print_json({"deleted": _name(name)})
    else:
        terminal.console.print(f"deleted {_name(name)}", markup=False)


def _check_empty(collection: pb.Collection) -> None:
    """The documents are the ingest service's: without their chunks it would go on to list them, and nothing find them."""
    chunks = collection.chunk_count + collection.staged_chunk_count
    if chunks:
        raise FailedPrecondition(
            f"{collection.name} holds {chunks} chunks of documents. Delete those first: "
            f"`murphey documents delete --all --collection {_id(collection)}`."
        )


@asynccontextmanager
async def _retriever(data: Path, target: str | None) -> AsyncIterator[RetrieverServiceStub]:
    with translated("retriever"):
        async with channel_for("retriever", data, target) as channel:
            yield RetrieverServiceStub(channel)


def _name(collection: str) -> str:
    """`notes` and `collections/notes` are the same."""
    name = collection if collection.startswith("collections/") else f"collections/{collection}"
    collection_id(name)
    return name


def _id(collection: pb.Collection) -> str:
    return collection.name.removeprefix("collections/")


def _passage(passage: pb.Passage) -> dict[str, Any]:
    chunk = passage.chunk
    return {
        "document": chunk.display_name or chunk.document,
        "chunk": chunk.id,
        "score": passage.score,
        "text": chunk.text,
        "page": chunk.page or None,
        "start": chunk.span.start,
        "end": chunk.span.end,
        "document_name": chunk.document,
        "headings": list(chunk.headings),
        "place": place_messages.to_json(chunk.place),
        "dense_score": passage.dense_score if passage.HasField("dense_score") else None,
        "rerank_score": passage.rerank_score if passage.HasField("rerank_score") else None,
        "metadata": MessageToDict(chunk.metadata),
    }


def _collection(collection: pb.Collection) -> dict[str, Any]:
    return {
        "name": collection.name,
        "embedder": collection.embedder,
        "language": collection.language,
        "languages": list(collection.languages),
        "chunk_tokens": collection.chunking.chunk_tokens,
        "overlap_tokens": collection.chunking.overlap_tokens,
        "splitter": pb.Splitter.Name(collection.chunking.splitter).removeprefix("SPLITTER_").lower(),
        "chunks": collection.chunk_count,
        "staged_chunks": collection.staged_chunk_count,
        "dimensions": collection.dimensions,
        "fields": list(collection.fields),
        "index_version": collection.index_version,
        "building": collection.building.index_version or None,
        "previous": collection.previous.index_version or None,
        "created": collection.create_time.ToJsonString(),
    }


def _print_passages(response: pb.SearchResponse) -> None:
    if not response.passages:
        terminal.console.print("Nothing was found.")
    for number, passage in enumerate(response.passages, 1):
        chunk = passage.chunk
        where = escape(chunk.display_name or chunk.document) + escape(place_messages.describe(chunk.page, chunk.place))
        terminal.out.print(f"[bold]{number}. {where}[/bold]  [dim]{passage.score:.3f}[/dim]")
        terminal.out.print(f"   {' '.join(chunk.text.split())[:300]}\n", markup=False)


def _print_collection(collection: pb.Collection, as_json: bool) -> None:
    if as_json:
        terminal.print_json(_collection(collection))
        return
    for key, value in _collection(collection).items():
        terminal.out.print(f"{key}: {', '.join(value) if isinstance(value, list) else value}", markup=False)
