"""`murphey collections move`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mesh import terminal
from mesh.collection_options import NameArgument, full_name
from mesh.discovery import channel_for
from mesh.errors import translated
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption
from murphey.retriever.v1 import moving_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

TIMEOUT_S = 7 * 86_400.0


class StoreName(StrEnum):
    """Names of the stores."""

    EDGE = "edge"
    SERVER = "server"


def register(group: typer.Typer) -> None:
    """Adds the command to the group `collections`."""
    group.command("move")(move_collection)


def move_collection(
    name: NameArgument,
    to: Annotated[StoreName, typer.Option("--to", help="The retriever's own store, or its Qdrant server.")],
    questions: Annotated[
        int,
        typer.Option("--questions", min=0, max=10_000, help="Questions that both stores are asked before the switch."),
    ] = 200,
    agreement: Annotated[
        float,
        typer.Option("--agreement", min=0, max=1, help="Share of them that must have the same first ten passages."),
    ] = 0.99,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a collection to another store, vectors and all, while it is used. Nothing is embedded.

    What interrupts it loses nothing: the same command goes on where it stopped; `--to` the store that it is in ends it.
    """
    request = pb.MoveCollectionRequest(
        name=full_name(name),
        store=pb.STORE_KIND_SERVER if to is StoreName.SERVER else pb.STORE_KIND_EDGE,
        questions=questions,
        minimum_agreement=agreement,
    )
    _show(terminal.run(_follow(request, data, target, as_json)), full_name(name), to, as_json)


async def _follow(
    request: pb.MoveCollectionRequest, data: Path, target: str | None, as_json: bool
) -> pb.MoveCollectionResponse:
    """What came last; a bar on a terminal, each answer as a line for machines."""
    last = pb.MoveCollectionResponse()
    bars = Progress(
        TextColumn("{task.description:<11}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=terminal.console, disable=as_json or not terminal.console.is_terminal, transient=True,
    )  # fmt: skip
    with translated("retriever"), bars:
        bar = bars.add_task("copying", total=None)
        async with channel_for("retriever", data, target) as channel:
            async for last in RetrieverServiceStub(channel).MoveCollection(request, timeout=TIMEOUT_S):
                phase = _phase(last)
                bars.update(bar, description=phase, completed=last.copied_chunks, total=last.total_chunks)
                if as_json and last.phase != pb.MOVE_PHASE_DONE:
                    terminal.print_json({"phase": phase, "copied": last.copied_chunks, "total": last.total_chunks})
    return last


def _phase(response: pb.MoveCollectionResponse) -> str:
    return pb.MovePhase.Name(response.phase).removeprefix("MOVE_PHASE_").lower().replace("_", " ")


def _show(last: pb.MoveCollectionResponse, name: str, to: StoreName, as_json: bool) -> None:
    if as_json:
        fields = {"chunks": last.copied_chunks, "questions": last.questions, "same_answers": last.same_answers}
        terminal.print_json({"phase": _phase(last), "collection": name, "store": to.value, **fields})
        return
    compared = f", {last.same_answers} of {last.questions} questions answered the same" if last.questions else ""
    terminal.console.print(f"{name} is in {to.value}: {last.copied_chunks} chunks moved{compared}", markup=False)
