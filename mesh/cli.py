"""The `murphey` command: its root, to which every service adds its own part."""

import importlib
import io
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from mesh import discovery, logs, terminal
from mesh.errors import MurpheyError

PARTS = (
    "mesh.up",
    "mesh.access.cli",
    "mesh.status.cli",
    "mesh.capacity.cli",
    "mesh.backup.cli",
    "ingest.cli",
    "retriever.cli",
    "orchestrator.cli",
    "generator.cli",
    "training.cli",
)


def build() -> typer.Typer:
    """The command with all its parts."""
    root = typer.Typer(
        name="murphey",
        help="Ask questions over your own documents, on your own hardware, and check every citation.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    root.callback()(_root)
    for part in PARTS:
        importlib.import_module(part).register(root)
    return root


def main() -> None:
    """The console command."""
    logs.configure("murphey", "warning", "console")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal has no letters for
    try:
        build()()
    except MurpheyError as error:
        terminal.console.print(f"error: {error.message}", markup=False, soft_wrap=True)
        sys.exit(1)
    except UnicodeEncodeError as error:  # no message of the contract holds it
        shown = str(error.object)[:100].encode("unicode_escape").decode()
        terminal.console.print(f"error: '{shown}' is not UTF-8. Write it in UTF-8.", markup=False, soft_wrap=True)
        sys.exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        terminal.out.print(version("murphey"))
        raise typer.Exit


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="MURPHEY_API_KEY",
            help="API key, where the mesh asks for one. The variable keeps it out of the list of processes.",
        ),
    ] = None,
) -> None:
    """Ask questions over your own documents, on your own hardware, and check every citation."""
    discovery.api_key.set(api_key or None)
