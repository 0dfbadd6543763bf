"""`murphey documents list | show | delete | text | download`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict

from mesh import terminal
from mesh.discovery import channel_for
from mesh.errors import InvalidInput, NotFound, translated
from mesh.place_messages import to_json
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from murphey.retriever.v1.retriever_pb2 import Span

TIMEOUT_S = 30.0
DELETE_TIMEOUT_S = 120.0
DOWNLOAD_TIMEOUT_S = 3600.0

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The document's name, or collections/ID/documents/ID.")
]
CollectionOption = Annotated[str, typer.Option("--collection", help="The collection's id.")]


def commands() -> typer.Typer:
    """The group."""
    group = typer.Typer(help="See, read and delete documents.", no_args_is_help=True)
    for command, name in (
        (_list, "list"),
        (_show, "show"),
        (_delete, "delete"),
        (_text, "text"),
        (_download, "download"),
    ):
        group.command(name)(command)
    return group


def _list(
    collection: CollectionOption = "default",
    state: Annotated[str, typer.Option(help="Only pending, live or failed ones.")] = "",
    archive: Annotated[str, typer.Option(help="Only what is in this archive.")] = "",
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """List a collection's documents, failed ones too."""
    terminal.run(_list_all(collection, state, archive, data, target, as_json))


async def _list_all(collection: str, state: str, archive: str, data: Path, target: str | None, as_json: bool) -> None:
    request = pb.ListDocumentsRequest(
        parent=f"collections/{collection}", page_size=1000, state=enum_value(pb.DocumentState, state)
    )
    async with ingest_stub(data, target) as stub:
        if archive:
            request.archive = (await find_document(stub, archive, collection)).name
        found = [document_json(document) async for document in _pages(stub, request)]
    if as_json:
        terminal.print_json({"documents": found})
    else:
        _print_documents(found)


async def _pages(stub: IngestServiceStub, request: pb.ListDocumentsRequest) -> AsyncIterator[pb.Document]:
    """By name, page by page."""
    while True:
        response = await stub.ListDocuments(request, timeout=TIMEOUT_S)
        for document in response.documents:
            yield document
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def _print_documents(found: list[dict[str, Any]]) -> None:
    """A line a document; why some failed, where some did."""
    headers = ["document", "state", "chunks", "pages", "type"]
    rows = [
        [shown["document"], shown["state"], str(shown["chunks"]), str(shown["pages"] or ""), shown["media_type"]]
        for shown in found
    ]
    if any(shown["error"] for shown in found):
        headers.append("error")
        rows = [[*row, shown["error"] or ""] for row, shown in zip(rows, found, strict=True)]
    terminal.print_table(headers, rows)


def _show(
    name: NameArgument,
    collection: CollectionOption = "default",
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Show what is known of a document, and of an archive what in it could not be read."""

    async def show() -> None:
        async with ingest_stub(data, target) as stub:
            document = await find_document(stub, name, collection)
            print_fields(document_json(document), as_json)
            if document.members.failed and not as_json:
                await _show_failed(stub, document)

    terminal.run(show())


async def _show_failed(stub: IngestServiceStub, archive: pb.Document) -> None:
    parent = archive.name.partition("/documents/")[0]
    failed = pb.ListDocumentsRequest(
        parent=parent, archive=archive.name, state=pb.DOCUMENT_STATE_FAILED, page_size=1000
    )
    async for member in _pages(stub, failed):
        terminal.out.print(f"failed       {member.display_name}: {member.error.message}", markup=False)


def _delete(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Names of documents.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All documents of the collection.")] = False,
    collection: CollectionOption = "default",
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Delete documents: chunks, text and raw file."""
    if bool(names) == everything:
        terminal.fail("Name the documents to delete, or say --all.", code=2)

    async def delete() -> None:
        async with ingest_stub(data, target) as stub:
            if everything:
                of_all = pb.ListDocumentsRequest(parent=f"collections/{collection}", page_size=1000)
                async for document in _pages(stub, of_all):
                    if not document.archive:  # a member goes with its archive
                        await _delete_one(stub, document, as_json)
            for name in names or ():
                await _delete_one(stub, await find_document(stub, name, collection), as_json)

    terminal.run(delete())


async def _delete_one(stub: IngestServiceStub, document: pb.Document, as_json: bool) -> None:
    request = pb.DeleteDocumentRequest(name=document.name)
    deleted = (await stub.DeleteDocument(request, timeout=DELETE_TIMEOUT_S)).deleted_chunks
    if as_json:
        terminal.print_json({"document": document.display_name, "deleted_chunks": deleted})
    else:
        terminal.out.print(f"deleted {document.display_name} ({deleted} chunks)", markup=False)


def _text(
    name: NameArgument,
    start: Annotated[int, typer.Option(min=0, help="The first character.")] = 0,
    end: Annotated[int | None, typer.Option(min=0, help="One past the last character; default the text's end.")] = None,
    collection: CollectionOption = "default",
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Print a document's parsed text, or a span of it: what a citation points to."""

    async def text() -> None:
        async with ingest_stub(data, target) as stub:
            document = await find_document(stub, name, collection)
            last = document.text_length if end is None else end
            for at in range(start, last, 1_000_000) if last > start else [start]:
                span = Span(start=at, end=min(last, at + 1_000_000))
                found = await stub.GetDocumentText(
                    pb.GetDocumentTextRequest(name=document.name, span=span), timeout=TIMEOUT_S
                )
                if as_json:
                    terminal.print_json({
                        "document": document.display_name, "start": found.span.start, "end": found.span.end,
                        "page": found.page or None, "place": to_json(found.place), "version": found.version, "text": found.text,
                    })  # fmt: skip
                else:
                    terminal.write(found.text)

    terminal.run(text())


def _download(
    name: NameArgument,
    output: Annotated[Path | None, typer.Option(help="File to write; default the document's own file name.")] = None,
    collection: CollectionOption = "default",
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
) -> None:
    """Download the raw file. An existing file is not overwritten unless --output names it."""

    async def download() -> None:
        async with ingest_stub(data, target) as stub:
            document = await find_document(stub, name, collection)
            path = output or Path(PurePosixPath(document.display_name).name)
            if output is None and path.exists():
                raise InvalidInput(f"{path} exists; name it with --output to overwrite it.")
            await _write(stub, document, path)

    terminal.run(download())


async def _write(stub: IngestServiceStub, document: pb.Document, path: Path) -> None:
    """Writes beside the file first, so that it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    call = stub.DownloadDocument(pb.DownloadDocumentRequest(name=document.name), timeout=DOWNLOAD_TIMEOUT_S)
    try:
        with part.open("wb") as file:
            async for response in call:
                file.write(response.data)
        part.replace(path)
    finally:
        call.cancel()
        part.unlink(missing_ok=True)
    terminal.console.print(f"wrote {path}", markup=False)


@asynccontextmanager
async def ingest_stub(data: Path, target: str | None) -> AsyncIterator[IngestServiceStub]:
    """The service; its errors are mesh.errors."""
    async with channel_for("ingest", data, target) as channel:
        with translated("ingest service"):
            yield IngestServiceStub(channel)


async def find_document(stub: IngestServiceStub, name: str, collection: str) -> pb.Document:
    """By resource name or by display name. NotFound when there is none."""
    if name.startswith("collections/"):
        return (await stub.GetDocument(pb.GetDocumentRequest(name=name), timeout=TIMEOUT_S)).document
    request = pb.ListDocumentsRequest(parent=f"collections/{collection}", display_name=name, page_size=1)
    found = (await stub.ListDocuments(request, timeout=TIMEOUT_S)).documents
    if not found:
        raise NotFound(f"There is no document {name!r} in the collection {collection}. See `murphey documents list`.")
    return found[0]


def document_json(document: pb.Document) -> dict[str, Any]:
    """Stable keys."""
    return {
        "name": document.name,
        "document": document.display_name,
        "state": pb.DocumentState.Name(document.state).removeprefix("DOCUMENT_STATE_").lower(),
        "version": document.version,
        "media_type": document.media_type,
        "size_bytes": document.size_bytes,
        "sha256": document.sha256,
        "text_length": document.text_length,
        "pages": document.page_count,
        "chunks": document.chunk_count,
        "metadata": MessageToDict(document.metadata),
        "error": document.error.message or None,
        "archive": document.archive or None,
        "members": _member_counts(document),
        "job": document.job,
        "created": document.create_time.ToJsonString(),
        "updated": document.update_time.ToJsonString(),
    }


def _member_counts(document: pb.Document) -> dict[str, int] | None:
    if not document.HasField("members"):
        return None
    return {name: getattr(document.members, name) for name in ("pending", "live", "failed")}


def print_fields(fields: dict[str, Any], as_json: bool) -> None:
    """One thing: JSON, or a line a field."""
    if as_json:
        terminal.print_json(fields)
        return
    for key, value in fields.items():
        if value not in (None, "", 0, {}):
            terminal.out.print(f"{key:<12} {value}", markup=False)


def enum_value(enum: Any, name: str) -> Any:
    """`failed` -> JOB_STATE_FAILED; an empty name is unspecified. InvalidInput lists the names."""
    values = {key.split("_STATE_")[1].lower(): number for key, number in enum.items()}
    if name and name.lower() not in values:
        known = ", ".join(key for key in values if key != "unspecified")
        raise InvalidInput(f"{name!r} is not a state; the states are {known}.")
    return values[name.lower()] if name else 0
