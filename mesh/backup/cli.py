"""`murphey backup`, `murphey backup list`, `murphey backup verify` and `murphey restore`."""

import importlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from mesh import discovery, terminal
from mesh.errors import FailedPrecondition, InvalidInput, Unavailable
from mesh.settings import ServiceSettings, problems
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption

ROOMS = ("mesh", "orchestrator", "ingest")
"""Those with databases."""
SECRETS = "API keys are in it as hashes. TLS keys, the services' own key and settings are not: keep those elsewhere."
DestinationArgument = Annotated[
    str, typer.Argument(metavar="PLACE", help="A folder, or an object store such as s3://bucket/prefix.")
]
IdOption = Annotated[str, typer.Option("--id", help="Which backup; the newest one by default.")]
Tell = Callable[[str, int], None]


class _BackupGroup(TyperGroup):
    """`murphey backup PLACE` is `murphey backup create PLACE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        named = bool(args) and (args[0] in self.commands or args[0].startswith("-"))
        return super().resolve_command(ctx, args if named else ["create", *args])


app = typer.Typer(
    name="backup", cls=_BackupGroup, no_args_is_help=True,
    help="Back up a mesh while it runs: `murphey backup PLACE`. List and verify backups.",
)  # fmt: skip


def register(root: typer.Typer) -> None:
    """Adds the commands."""
    root.add_typer(app)
    root.command()(restore)


@app.command()
def create(
    place: DestinationArgument,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Drop all but so many of the newest; 0 keeps all.")] = 0,
    steal_lock: Annotated[
        bool, typer.Option("--steal-lock", help="Go on although another backup has the lock, which has died.")
    ] = False,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Back up databases, files and vectors of a mesh, whether it runs or not."""
    from mesh.backup.backing_up import BackingUp, Sources
    from mesh.backup.place import Place

    async def run() -> dict[str, Any]:
        there = Place.open(place, make=True)
        with _told(as_json) as tell:
            async with there.locked(steal=steal_lock), _sources(data) as (databases, chunks, documents):
                sources = Sources(databases, chunks, documents, data)
                manifest = await BackingUp(sources, there, tell).run()
                dropped = await there.keep_only(keep)
        return {**manifest.summary(), "written_bytes": there.written_bytes, "dropped": dropped}

    _show(terminal.run(run()), as_json)
    if not as_json:
        terminal.console.print(SECRETS)


@app.command("list")
def list_backups(place: DestinationArgument, as_json: JsonOption = False) -> None:
    """List the backups in a place, the oldest first."""
    from mesh.backup.place import Place

    async def run() -> list[dict[str, Any]]:
        there = Place.open(place)
        return [(await there.manifest(name)).summary() for name in await there.manifests()]

    found = terminal.run(run())
    if as_json:
        terminal.print_json({"backups": found})
        return
    columns = ("backup", "rows", "collections", "chunks", "files", "file_bytes", "murphey")
    terminal.print_table(columns, ([str(each[column]) for column in columns] for each in found))


@app.command()
def verify(place: DestinationArgument, identifier: IdOption = "", as_json: JsonOption = False) -> None:
    """Read all of a backup, and compare it with what was written. Exit 1 when anything differs."""
    from mesh.backup.place import Place
    from mesh.backup.restoring import check_versions
    from mesh.backup.restoring import verify as verify_all

    async def run() -> dict[str, Any]:
        there = Place.open(place)
        manifest = await there.manifest(identifier)
        check_versions(manifest)
        with _told(as_json) as tell:
            await verify_all(manifest, there, tell)
        return {**manifest.summary(), "verified": True}

    _show(terminal.run(run()), as_json)


def restore(
    place: DestinationArgument,
    identifier: IdOption = "",
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Although there is a mesh already; its data folder is kept beside the new one."),
    ] = False,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Restore a mesh from a backup, into the stores that the settings name. The mesh must not run."""
    from mesh.backup.place import Place
    from mesh.backup.restoring import Targets, check_versions
    from mesh.backup.restoring import restore as restore_all

    async def run() -> dict[str, Any]:
        there = Place.open(place)
        manifest = await there.manifest(identifier)
        check_versions(manifest)
        _check_target(data, replace=replace)
        scratch = data.absolute().with_name(f"{data.absolute().name}.restoring")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        with _told(as_json) as tell:
            async with _targets(scratch) as (databases, chunks, documents):
                targets = Targets(databases, chunks, documents, scratch)
                await restore_all(manifest, there, targets, tell, replace=replace)
        return {**manifest.summary(), "restored": str(data), "before": _take_place(scratch, data, manifest.id)}

    _show(terminal.run(run()), as_json)


def _check_target(data: Path, *, replace: bool) -> None:
    try:
        discovery.find(data)
    except Unavailable:
        pass
    else:
        raise FailedPrecondition(f"A mesh runs on {data}. Stop it first.")
    if data.is_dir() and any(data.iterdir()) and not replace:
        raise FailedPrecondition(
            f"The data folder {data} is not empty. Say --replace to put the backup in its place; it is kept beside it."
        )


def _take_place(scratch: Path, data: Path, backup: str) -> str | None:
    """Returns where the folder is that was there before."""
    before: Path | None = None
    if data.exists():
        before = data.absolute().with_name(f"{data.absolute().name}.before-{backup}")
        shutil.rmtree(before, ignore_errors=True)
        data.replace(before)
    scratch.replace(data.absolute())
    return str(before) if before is not None else None


@asynccontextmanager
async def _sources(data: Path) -> AsyncIterator[tuple[dict[str, str], Any, Any]]:
    settings = _settings(data)
    documents = importlib.import_module("ingest.backup").BackedUpDocuments(settings["ingest"])
    try:
        async with importlib.import_module("retriever.backup").chunks_of(settings["retriever"]) as chunks:
            yield _databases(settings), chunks, documents
    finally:
        documents.close()


@asynccontextmanager
async def _targets(data: Path) -> AsyncIterator[tuple[dict[str, str], Any, Any]]:
    settings = _settings(data)
    documents = importlib.import_module("ingest.backup").BackedUpDocuments(settings["ingest"])
    try:
        async with importlib.import_module("retriever.backup").restored_into(settings["retriever"]) as chunks:
            yield _databases(settings), chunks, documents
    finally:
        documents.close()


def _settings(data: Path) -> dict[str, Any]:
    """Of each service, as it reads them itself. mesh knows no service before it is asked."""
    found: dict[str, Any] = {"mesh": ServiceSettings}
    for room in ("orchestrator", "ingest", "retriever"):
        found[room] = getattr(importlib.import_module(f"{room}.settings"), f"{room.capitalize()}Settings")
    try:
        return {room: made(data=data) for room, made in found.items()}
    except ValidationError as error:
        raise InvalidInput(problems(error)) from error


def _databases(settings: dict[str, Any]) -> dict[str, str]:
    from mesh.database import database_url

    urls = {room: getattr(settings[room], "database_url", "") for room in ROOMS} | {
        "mesh": settings["mesh"].keys_database_url
    }
    return {room: database_url(url, settings[room].data, room) for room, url in urls.items()}


@contextmanager
def _told(as_json: bool) -> Iterator[Tell]:
    """Counts, shown while they grow on a terminal; for machines at the end only."""
    bars = Progress(
        TextColumn("{task.description:<7} {task.completed:>10.0f}"), TimeElapsedColumn(), console=terminal.console,
        disable=as_json or not terminal.console.is_terminal, transient=True,
    )  # fmt: skip
    tasks: dict[str, Any] = {}

    def tell(what: str, more: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=None)
        bars.advance(tasks[what], more)

    with bars:
        yield tell


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        terminal.print_json(found)
        return
    for key, value in found.items():
        if value not in (None, []):
            terminal.out.print(f"{key}: {', '.join(value) if isinstance(value, list) else value}", markup=False)
