"""What every command of `murphey` shares: options, output, errors and exit codes.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted.
"""

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import grpc
import typer
from rich.console import Console

from mesh.errors import MurpheyError, from_rpc_error

DataOption = Annotated[
    Path, typer.Option("--data", envvar="MURPHEY_DATA", help="Data folder of the mesh on this machine.")
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", envvar="MURPHEY_TARGET", help="One address that routes all services, instead of --data."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DEFAULT_DATA = Path(".murphey")

out = Console(highlight=False, soft_wrap=True)
console = Console(stderr=True, highlight=False)

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a command's coroutine; what goes wrong becomes one clear line and an exit code."""
    try:
        return asyncio.run(work)
    except MurpheyError as error:
        fail(error.message)
    except grpc.RpcError as error:
        fail(from_rpc_error(error, "mesh").message)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(message: str, code: int = 1) -> NoReturn:
    """Says why on standard error and exits."""
    console.print(f"[red]error:[/red] {_escaped(message)}", soft_wrap=True)
    raise typer.Exit(code)


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
