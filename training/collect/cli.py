"""`murphey train collect wikipedia | github | reddit | folder | collection`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesh import terminal
from mesh.errors import MurpheyError
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption
from training.checking import checked
from training.extra import installed

if TYPE_CHECKING:
    from training.collect.collecting import Manifest
    from training.collect.collectors import Collector

OutOption = Annotated[
    Path, typer.Option("--out", help="Folder for the records, new, or one in which the same command was broken off.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Records at most.")]
LicenceOption = Annotated[str, typer.Option("--licence", help="Licence of the texts, by SPDX identifier.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Processes that turn markup into text.")]


def register(group: typer.Typer) -> None:
    """Adds the group `collect`."""
    collect = typer.Typer(help="Collect text, each piece with its source, licence and date.", no_args_is_help=True)
    for name, command in (
        ("wikipedia", _wikipedia), ("github", _github), ("reddit", _reddit), ("folder", _folder),
        ("collection", _collection),
    ):  # fmt: skip
        collect.command(name)(command)
    group.add_typer(collect, name="collect")


def _wikipedia(
    dump: Annotated[str, typer.Argument(metavar="DUMP", help="A pages-articles dump, .xml or .xml.bz2: path or URL.")],
    out: OutOption,
    limit: LimitOption = None,
    licence: LicenceOption = "CC-BY-SA-4.0",
    workers: WorkersOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Collect the articles of a MediaWiki dump as plain text."""
    with installed():
        from training.collect import inputs
        from training.collect.wikipedia import WikipediaDump

    source = checked(lambda: inputs.find(dump))
    _run(WikipediaDump(source, workers=workers, licence=licence), out, limit, as_json, in_bytes=True)


def _github(
    places: Annotated[list[str], typer.Argument(metavar="PLACE", help="Clones, archives (tar, zip), OWNER/NAME.")],
    out: OutOption,
    any_licence: Annotated[
        bool, typer.Option("--any-licence", help="Also repositories under other than permissive licences, or none.")
    ] = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect source code; vendored and generated files and files with secrets are left out. GITHUB_TOKEN raises limits."""
    with installed():
        from training.collect.github import API, GitHub

    api = os.environ.get("MURPHEY_GITHUB_API", API)
    token = os.environ.get("GITHUB_TOKEN")
    _run(GitHub(places, any_licence=any_licence, token=token, api=api), out, limit, as_json)


def _reddit(
    dump: Annotated[
        Path | None, typer.Argument(metavar="DUMP", help="A dump, .zst; left out, the API is asked.")
    ] = None,
    out: OutOption = Path("reddit"),
    subreddit: Annotated[list[str] | None, typer.Option(help="Only this subreddit; may be repeated.")] = None,
    listing: Annotated[str, typer.Option(help="Of the API: new, top or hot.")] = "new",
    min_score: Annotated[int, typer.Option(help="The least score.")] = 3,
    min_characters: Annotated[int, typer.Option(min=1, help="The least length of a text.")] = 100,
    over_18: Annotated[bool, typer.Option("--over-18", help="Also what is marked as not for minors.")] = False,
    limit: LimitOption = None,
    licence: LicenceOption = "LicenseRef-Reddit-User-Agreement",
    as_json: JsonOption = False,
) -> None:
    """Collect submissions and comments from a dump, or submissions through the API."""
    with installed():
        from training.collect.reddit import PostFilter, RedditDump, subreddit_names
        from training.collect.reddit_api import LISTINGS, Addresses, Credentials, RedditListing

    wanted = PostFilter(min_score, min_characters, over_18, subreddit_names(subreddit or ()))
    if dump is not None:
        if not dump.is_file():
            terminal.fail(f"There is no file {dump}.", code=2)
        _run(RedditDump(dump, wanted, licence), out, limit, as_json)
        return
    if not subreddit or listing not in LISTINGS:
        terminal.fail(f"Name a DUMP, or for the API a --subreddit and a --listing of {', '.join(LISTINGS)}.", code=2)
    found = [os.environ.get(f"MURPHEY_REDDIT_CLIENT_{name}", "") for name in ("ID", "SECRET")]
    credentials = Credentials(*found) if all(found) else None
    own = os.environ.get("MURPHEY_REDDIT_URL")
    addresses = Addresses(own, own) if own else Addresses()
    _run(RedditListing(subreddit, listing, wanted, licence, credentials, addresses), out, limit, as_json)


def _folder(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of text files.")],
    out: OutOption,
    licence: LicenceOption,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect text files, in any encoding. Other documents: ingest them, and collect the collection."""
    with installed():
        from training.collect.folders import Folder

    _run(Folder(folder, licence), out, limit, as_json, in_bytes=True)


def _collection(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="A collection of the running mesh.")],
    out: OutOption,
    licence: LicenceOption,
    limit: LimitOption = None,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect the texts of a collection's documents; `licence` in a document's metadata goes before --licence."""
    with installed():
        from training.collect.collections import Collection

    _run(Collection(collection, licence, data, target), out, limit, as_json)


def _run(collector: "Collector", out: Path, limit: int | None, as_json: bool, *, in_bytes: bool = False) -> None:
    from training.collect.collecting import collect, prepare
    from training.progress import Bar

    checked(lambda: prepare(collector, out))
    counts = {"records": 0}
    with Bar("collecting", collector.total, in_bytes=in_bytes, quiet=as_json) as bar:

        def watch(found: Any) -> None:
            counts["records"] += found.record is not None
            bar.show(found.done, f"{counts['records']} records")

        try:
            manifest = collect(collector, out, limit=limit, watch=watch)
        except KeyboardInterrupt:
            terminal.console.print("Interrupted. The same command goes on where this one ended.")
            raise typer.Exit(130) from None
        except MurpheyError as error:
            terminal.fail(error.message)
    _show(manifest, out, as_json)


def _show(manifest: "Manifest", out: Path, as_json: bool) -> None:
    dropped = dict(sorted((manifest.dropped or {}).items(), key=lambda pair: -pair[1]))
    if as_json:
        terminal.print_json({
            "folder": str(out), "collector": manifest.collector, "finished": manifest.finished, "records": manifest.records,
            "bytes": manifest.bytes, "dropped": dropped, "files": manifest.shards or [],
        })  # fmt: skip
        return
    files = len(manifest.shards or [])
    terminal.out.print(
        f"{manifest.records} records, {manifest.bytes / 1e6:,.1f} MB, in {files} files of {out}", markup=False
    )
    for reason, count in dropped.items():
        terminal.out.print(f"  left out: {count} {reason}", markup=False)
    if not manifest.records:
        terminal.fail("Nothing was collected.")
