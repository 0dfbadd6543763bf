"""`murphey train perplexity` and `gate`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from mesh import terminal, threads
from mesh.errors import InvalidInput
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption


def register(group: typer.Typer) -> None:
    """Adds the commands to `murphey train`."""
    group.command("perplexity")(perplexity_command)
    group.command("gate")(gate_command)


def perplexity_command(
    model: Annotated[Path, typer.Argument(help="A checkpoint, or a folder in Hugging Face's form.")],
    texts: Annotated[list[Path], typer.Argument(help="Text files, each one text.")],
    tokenizer: Annotated[Path | None, typer.Option(help="The tokenizer's folder, where the model's has none.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a model predicts texts: nats a token, perplexity, bits a byte."""
    threads.limit()
    from training.evaluating.perplexity import perplexity

    if missing := [path for path in texts if not path.is_file()]:
        raise InvalidInput(f"{missing[0]} is no file.")
    found = perplexity(model, (path.read_text(encoding="utf-8", errors="replace") for path in texts), tokenizer)
    if as_json:
        terminal.print_json(asdict(found))
    else:
        terminal.out.print(
            "\n".join(f"{name.replace('_', ' ')}: {value:,.6g}" for name, value in asdict(found).items())
        )


def gate_command(
    labelled: Annotated[Path, typer.Argument(metavar="SET", help="A labelled set, as `murphey eval` reads it.")],
    candidate: Annotated[str, typer.Option(help="The new model, as the generator serves it.")],
    against: Annotated[str, typer.Option(help="The model in service; the generator's default one if left out.")] = "",
    better_in: Annotated[
        list[str] | None, typer.Option(help="Scores that must be better, such as f1; none may be worse.")
    ] = None,
    gate: Annotated[list[str] | None, typer.Option(help="Also to hold, such as 'f1>=0.3'.")] = None,
    part: Annotated[
        Literal["held-out", "calibration", "all"], typer.Option(help="Nothing was trained on the half held-out.")
    ] = "held-out",
    questions: Annotated[int | None, typer.Option(min=1, help="A sample of so many, always the same.")] = None,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a new model against the one in service, through the mesh. Exit code 0: it passed; 1: it did not."""
    from orchestrator.evaluation.printing import Bars
    from orchestrator.evaluation.records import Kind
    from orchestrator.evaluation.running import Plan
    from orchestrator.evaluation.sets import Part
    from training.evaluating.gate import pass_through

    plan = Plan(
        Kind.ANSWERS, labelled, data, target, part=Part(part), count=questions, model=candidate, gates=tuple(gate or ())
    )
    with Bars(quiet=as_json) as bars:
        told = terminal.run(pass_through(plan, against, better_in or (), bars))
    if as_json:
        scores = {each.metric: [each.before, each.now, each.low, each.high] for each in told.comparisons}
        terminal.print_json({
            "passed": told.passed, "reasons": told.reasons, "scores": scores, "run": told.candidate_run,
            "in_service_run": told.in_service_run,
        })  # fmt: skip
    else:
        rows = ((each.metric, f"{each.before:.3f}", f"{each.now:.3f}", each.verdict) for each in told.comparisons)
        terminal.print_table(("score", "in service", "candidate", "verdict"), rows)
        terminal.out.print("passed" if told.passed else "\n".join(("not passed:", *told.reasons)))
    if not told.passed:
        raise typer.Exit(1)
