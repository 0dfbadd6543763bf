"""`murphey search` and `murphey collections`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.markup import escape

from mesh import place_messages, terminal
from mesh.collection_options import (
    PREPARE_TIMEOUT_S,
    EmbedderOption,
    NameArgument,
    OverlapOption,
    SplitterOption,
    TokensOption,
    chunking,
    full_name,
)
from mesh.collection_options import group as collections
from mesh.deadline import call_options
from mesh.discovery import channel_for
from mesh.errors import translated
from mesh.filter_text import FilterOption, read_filter
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, RerankerOption, RerankOption, TargetOption
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.moving_pb2 import StoreKind
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from retriever import cli_move

TIMEOUT_S = 60.0
SHOWN_CHARACTERS = 300


class ModeName(StrEnum):
    """Names of the search modes."""

    HYBRID = "hybrid"
    DENSE = "dense"
    SPARSE = "sparse"


CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="Collection to search.")]


def register(root: typer.Typer) -> None:
    """Adds the retriever's commands to `murphey`."""
    root.command("search")(search)
    cli_move.register(collections)
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
            collection=full_name(collection),
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
        ("collection", "chunks", "staged", "embedder", "language", "store"),
        (
            [_id(each), str(each.chunk_count), str(each.staged_chunk_count), each.embedder, each.language, _store(each)]
            for each in found
        ),
    )


@collections.command("create")
def create_collection(
    name: NameArgument,
    embedder: EmbedderOption = "",
    language: Annotated[str, typer.Option("--language", help="Language of its words, such as german, or auto.")] = "",
    chunk_tokens: TokensOption = 0,
    overlap_tokens: OverlapOption = None,
    splitter: SplitterOption = None,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a collection. The same again is no error."""
    cut = chunking(chunk_tokens, overlap_tokens, splitter)
    wanted = pb.Collection(name=full_name(name), language=language, chunking=cut, embedder=embedder)

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
            request = pb.GetCollectionRequest(name=full_name(name))
            return (await retriever.GetCollection(request, **call_options(TIMEOUT_S))).collection

    _print_collection(terminal.run(read()), as_json)


@collections.command("delete")
def delete_collection(
    name: NameArgument,
    force: Annotated[bool, typer.Option("--force", help="Its chunks too: only for those that ingest has not.")] = False,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a collection whose documents have been deleted."""

    async def delete() -> None:
        async with _retriever(data, target) as retriever:
            await retriever.GetCollection(pb.GetCollectionRequest(name=full_name(name)), **call_options(TIMEOUT_S))
            request = pb.DeleteCollectionRequest(name=full_name(name), force=force)
            await retriever.DeleteCollection(request, **call_options(TIMEOUT_S))

    terminal.run(delete())
    if as_json:
        terminal.print_json({"deleted": full_name(name)})
    else:
        terminal.console.print(f"deleted {full_name(name)}", markup=False)


@asynccontextmanager
async def _retriever(data: Path, target: str | None) -> AsyncIterator[RetrieverServiceStub]:
    with translated("retriever"):
        async with channel_for("retriever", data, target) as channel:
            yield RetrieverServiceStub(channel)


def _id(collection: pb.Collection) -> str:
    return collection.name.removeprefix("collections/")


def _store(collection: pb.Collection) -> str:
    return StoreKind.Name(collection.store).removeprefix("STORE_KIND_").lower()


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
        "store": _store(collection),
        "created": collection.create_time.ToJsonString(),
    }


def _print_passages(response: pb.SearchResponse) -> None:
    if not response.passages:
        terminal.console.print("Nothing was found.")
    for number, passage in enumerate(response.passages, 1):
        chunk = passage.chunk
        where = escape(chunk.display_name or chunk.document) + escape(place_messages.describe(chunk.page, chunk.place))
        terminal.out.print(f"[bold]{number}. {where}[/bold]  [dim]{passage.score:.3f}[/dim]")
        text = shorten(chunk.text, SHOWN_CHARACTERS, placeholder=" …")
        terminal.out.print(f"   {text}\n", markup=False)


def _print_collection(collection: pb.Collection, as_json: bool) -> None:
    if as_json:
        terminal.print_json(_collection(collection))
        return
    for key, value in _collection(collection).items():
        terminal.out.print(f"{key}: {', '.join(value) if isinstance(value, list) else value}", markup=False)
