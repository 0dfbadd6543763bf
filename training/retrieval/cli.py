"""`murphey train triples` and `retrieval`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mesh import terminal, threads
from mesh.errors import AlreadyExists
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption
from training.extra import require


def register(group: typer.Typer) -> None:
    """Adds the commands to `murphey train`."""
    group.command("triples")(triples_command)
    group.command("retrieval")(retrieval_command)


def triples_command(
    labelled: Annotated[Path, typer.Argument(metavar="SET", help="A labelled set, as `murphey eval` reads it.")],
    collection: Annotated[str, typer.Option(help="The collection that holds its documents, under their file names.")],
    out: Annotated[Path, typer.Option(help="New JSON lines file.")],
    part: Annotated[
        Literal["calibration", "held-out", "all"], typer.Option(help="calibration: so that the held-out half can tell.")
    ] = "calibration",
    negatives: Annotated[int, typer.Option(min=1, max=20, help="A question.")] = 4,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
) -> None:
    """Mine questions with passages that answer and passages that only look like it from the live index."""
    from mesh.discovery import channel_for
    from orchestrator.evaluation.clients.searches import Searches
    from orchestrator.evaluation.reading import read_set
    from orchestrator.evaluation.sets import Part
    from training.retrieval.triples import Triple, mined, write_triples

    if out.exists():
        raise AlreadyExists(f"{out} exists already; nothing was overwritten.")
    labelled_set, half = read_set(labelled), Part(part)
    questions = [question for question in labelled_set.questions if half.holds(question.id)]

    async def fetch() -> list[Triple]:
        async with channel_for("retriever", data, target) as channel:
            searches = Searches(channel, collection, "hybrid", 50)
            return [triple async for triple in mined(labelled_set, questions, searches, negatives)]

    terminal.out.print(f"{write_triples(out, terminal.run(fetch()))} triples in {out}")


def retrieval_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file with the run's settings.")],
    out: Annotated[Path, typer.Option(help="New folder for the model.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Instead of what it says.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train an embedder or a reranker, which the retriever loads by its folder."""
    threads.limit()
    require("datasets")
    from training.retrieval.settings import retrieval_settings
    from training.retrieval.training import train
    from training.toml_files import read_toml_with

    outcome = train(retrieval_settings(**read_toml_with(file, changes or ())), out)
    told = {"model": str(outcome.model), "rows": outcome.rows, "steps": outcome.steps, "loss": outcome.loss}
    if as_json:
        terminal.print_json(told)
    else:
        terminal.out.print("\n".join(f"{name}: {value}" for name, value in told.items()))
