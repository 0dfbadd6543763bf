"""`murphey feedback`: says whether an answer was good, and what would have been better."""

from typing import Annotated

import typer
from rich.markup import escape

from mesh import terminal
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption, console
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from orchestrator.cli_answers import AnswerArgument, answer_name, call, feedback_json


def register(root: typer.Typer) -> None:
    """Adds the command."""
    root.command("feedback")(feedback)


def feedback(
    answer: AnswerArgument,
    up: Annotated[bool, typer.Option("--up/--down", help="Whether it was good.")],
    better: Annotated[str, typer.Option(help="What should have been said, with markers such as [1].")] = "",
    comment: Annotated[str, typer.Option(help="Why, for people to read; nothing is trained on it.")] = "",
    train: Annotated[
        bool,
        typer.Option(
            "--train/--no-train",
            help="Models may be trained on the question, its sources and both answers, once redacted; see `train feedback`.",
        ),
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
) -> None:
    """Rate an answer. It takes the place of what was said before, and goes with the answer."""
    said = pb.Feedback(
        rating=pb.RATING_GOOD if up else pb.RATING_BAD,
        better_answer=better,
        comment=comment,
        training_consent=train,
    )
    request = pb.RateAnswerRequest(name=answer_name(answer), feedback=said)
    kept = terminal.run(call("RateAnswer", request, data, target)).feedback
    if as_json:
        terminal.print_json({"answer_id": request.name.removeprefix("answers/"), "feedback": feedback_json(kept)})
    else:
        console.print(f"{escape(request.name)} is rated.")
