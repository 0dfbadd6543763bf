"""`murphey ingest PATH…`, and the groups `murphey documents` and `murphey jobs`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from ingest import cli_collections, cli_documents, cli_jobs
from ingest.cli_documents import CollectionOption
from ingest.cli_progress import Display
from ingest.gathering import Gatherer, check_places
from ingest.labels import Labels
from ingest.orders import Order
from ingest.planning import Step
from ingest.sending import Sender
from mesh import collection_options, terminal
from mesh.discovery import channel_for
from mesh.errors import InvalidInput, MurpheyError
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

PrefixOption = Annotated[str, typer.Option(help="Put before each document's name, such as reports/.")]
MetaOption = Annotated[
    list[str] | None,
    typer.Option(help="KEY=VALUE, kept with each document: a number, true, a date, or text. A key again makes a list."),
]
MetaCsvOption = Annotated[
    Path | None, typer.Option(help="CSV with a column path and a column for each key, a row for each file.")
]
SyncOption = Annotated[
    bool,
    typer.Option(
        "--sync", help="Also remove what is no longer in the folders: all documents whose name begins with --prefix."
    ),
]
WatchOption = Annotated[bool, typer.Option("--watch", help="Go on, and do it again whenever something changes.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Let --sync remove everything when a folder is empty.")]
PrivateOption = Annotated[
    bool, typer.Option("--allow-private", help="Read URLs at private addresses, such as this machine's, too.")
]


def register(root: typer.Typer) -> None:
    """Adds the commands."""
    root.command()(ingest)
    root.add_typer(cli_documents.commands(), name="documents")
    root.add_typer(cli_jobs.commands(), name="jobs")
    cli_collections.register(collection_options.group)


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, folders, and URLs of s3://, gs://, az:// and https://."),
    ],
    collection: CollectionOption = "default",
    prefix: PrefixOption = "",
    meta: MetaOption = None,
    meta_csv: MetaCsvOption = None,
    sync: SyncOption = False,
    watch: WatchOption = False,
    dry_run: DryRunOption = False,
    force: ForceOption = False,
    allow_private: PrivateOption = False,
    data: terminal.DataOption = terminal.DEFAULT_DATA,
    target: terminal.TargetOption = None,
    as_json: terminal.JsonOption = False,
) -> None:
    """Make documents searchable. A name that is there already is replaced; unchanged files are not sent.

    Metadata may also stand beside a file, in FILE.meta.json.
    """
    try:
        check_places(paths, sync=sync, watch=watch)
        if watch and dry_run:
            raise InvalidInput("--watch and --dry-run exclude each other.")
        labels = Labels.read(meta or [], meta_csv)
    except InvalidInput as error:
        terminal.fail(error.message, code=2)
    order = Order(paths, f"collections/{collection}", prefix, labels, sync, force)
    work = _Work(order, Display(as_json, each=watch, dry_run=dry_run), data, target, allow_private)
    terminal.run(work.watch() if watch else work.once())
    for name in sorted(labels.unused):
        terminal.console.print(f"{meta_csv} names {name}, which is not among the files.", markup=False, soft_wrap=True)
    work.display.finish()


class _Work:
    """An order on its way to a mesh."""

    def __init__(self, order: Order, display: Display, data: Path, target: str | None, allow_private: bool) -> None:
        self.order, self.display = order, display
        self._data, self._target, self._allow_private = data, target, allow_private

    async def once(self) -> None:
        """Does it, or says what it would do."""
        async with self._gatherer() as gatherer, self._sender() as sender:
            sources = await self.order.find(gatherer)
            if self.display.dry_run:
                await self.order.expect(sender, sources)
                return
            try:
                with self.display.bars():
                    await self.order.carry_out(sender, sources)
            except asyncio.CancelledError:
                await self._interrupted(sender)
                raise

    async def watch(self) -> None:
        """Does it again and again."""
        from ingest.watching import watch  # only here: loading the library takes time

        settled: dict[str, Step] = {}
        async with self._gatherer() as gatherer:

            async def do_pass() -> None:
                try:
                    async with self._sender(settled) as sender:
                        await self._pass(gatherer, sender, settled)
                except MurpheyError:
                    settled.clear()
                    raise

            await watch([Path(place) for place in self.order.places], do_pass, self._tell)

    async def _pass(self, gatherer: Gatherer, sender: Sender, settled: dict[str, Step]) -> None:
        first = not settled
        sources = await self.order.find(gatherer)
        for name in settled.keys() - {source.display_name for source in sources}:
            del settled[name]
        await self.order.carry_out(sender, sources)
        if first:
            self._tell(f"{self.display.summary()} Watching; Ctrl-C ends it.")

    @asynccontextmanager
    async def _sender(self, settled: dict[str, Step] | None = None) -> AsyncIterator[Sender]:
        async with channel_for("ingest", self._data, self._target) as channel:
            yield Sender(
                IngestServiceStub(channel), self.order.collection, self.display.report, self.display.advance, settled
            )

    def _gatherer(self) -> AbstractAsyncContextManager[Gatherer]:
        return Gatherer.open(self.order.places, self.order.prefix, allow_private=self._allow_private)

    def _tell(self, message: str) -> None:
        terminal.console.print(message, markup=False, soft_wrap=True)

    async def _interrupted(self, sender: Sender) -> None:
        """What was uploaded goes on, unless somebody who looks on says no."""
        jobs = len(sender.follower.open_jobs)
        if (
            jobs
            and self.display.interactive
            and not typer.confirm(
                f"{jobs} documents are on their way. Leave them to the service?", default=True, err=True
            )
        ):
            await sender.follower.cancel()
            self._tell(f"{jobs} jobs are cancelled. Earlier versions of their documents stay as they are.")
        elif jobs:
            self._tell("Interrupted. What was uploaded goes on in the service; see `murphey jobs list`.")
