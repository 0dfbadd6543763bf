"""`murphey answers` and `murphey replay`: what was answered, and what would be answered now."""

from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.markup import escape

from mesh import place_messages, terminal
from mesh.discovery import channel_for
from mesh.errors import translated
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption, console, out
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from orchestrator.cli_citations import citation_json, list_citations

DIFFERS = 3
"""Exit code of a replay that gave another answer."""
TIMEOUT_S = 30.0
REPLAY_TIMEOUT_S = 300.0

AnswerArgument = Annotated[str, typer.Argument(help="The answer, as `answers/ID` or ID: see `ask --json`.")]
_SIGNS = {pb.TEXT_CHANGE_SAME: ("", ""), pb.TEXT_CHANGE_REMOVED: ("[-", "-]"), pb.TEXT_CHANGE_ADDED: ("{+", "+}")}
_COLOURS = {pb.TEXT_CHANGE_SAME: "", pb.TEXT_CHANGE_REMOVED: "red", pb.TEXT_CHANGE_ADDED: "green"}

answers = typer.Typer(help="Answers that were given, with all that they came from.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Adds the commands."""
    root.add_typer(answers, name="answers")
    root.command("replay")(replay)


@answers.command("list")
def list_answers(
    collection: Annotated[str | None, typer.Option(help="Only answers from this collection.")] = None,
    rated: Annotated[bool, typer.Option("--rated", help="Only answers that somebody rated.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, the latest ones.")] = 20,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
) -> None:
    """List the latest answers."""
    within = f"collections/{collection}" if collection else ""
    request = pb.ListAnswersRequest(page_size=limit, collection=within, rated=rated)
    found = list(terminal.run(call("ListAnswers", request, data, target)).answers)
    if as_json:
        terminal.print_json({"answers": [_summary(answer) for answer in found]})
        return
    rows = [[answer.name, _time(answer), _outcome(answer), answer.question.text] for answer in found]
    terminal.print_table(["answer", "given (UTC)", "outcome", "question"], rows)


@answers.command("show")
def show(
    answer: AnswerArgument, as_json: JsonOption = False, data: DataOption = DEFAULT_DATA, target: TargetOption = None
) -> None:
    """Show an answer with its citations, sources and versions."""
    found = terminal.run(call("GetAnswer", pb.GetAnswerRequest(name=answer_name(answer)), data, target)).answer
    if as_json:
        terminal.print_json(_whole(found))
        return
    out.print(f"[bold]{escape(found.question.text)}[/bold]\n")
    out.print(escape(found.text))
    list_citations(found.citations)
    _list_sources(found.sources, "Sources")
    if found.HasField("feedback"):
        _tell_feedback(found.feedback)
    out.print(f"\n{found.name}, {_time(found)} UTC, {_outcome(found)}, {escape(_versions(found))}")


@answers.command("delete")
def delete(
    answer: AnswerArgument, as_json: JsonOption = False, data: DataOption = DEFAULT_DATA, target: TargetOption = None
) -> None:
    """Delete an answer; what its conversation says of it stays."""
    terminal.run(call("DeleteAnswer", pb.DeleteAnswerRequest(name=answer_name(answer)), data, target))
    if as_json:
        terminal.print_json({"deleted": answer_name(answer)})
    else:
        console.print(f"{escape(answer_name(answer))} is deleted.")


def replay(
    answer: AnswerArgument,
    model: Annotated[str | None, typer.Option(help="Another model, as `models/ID` or ID.")] = None,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
) -> None:
    """Ask an answer's question again of what is there now, and show the difference. Exits with 3 when there is one."""
    asked = f"models/{model.removeprefix('models/')}" if model else ""
    request = pb.ReplayAnswerRequest(name=answer_name(answer), model=asked)
    done = terminal.run(call("ReplayAnswer", request, data, target, REPLAY_TIMEOUT_S))
    if as_json:
        terminal.print_json(_replay_json(done))
    else:
        _print_replay(done)
    if not done.difference.same:
        raise typer.Exit(DIFFERS)


async def call(method: str, request: Any, data: Path, target: str | None, timeout_s: float = TIMEOUT_S) -> Any:
    """Calls the orchestrator."""
    async with channel_for("orchestrator", data, target) as channel:
        with translated("orchestrator"):
            return await getattr(OrchestratorServiceStub(channel), method)(request, timeout=timeout_s)


def _print_replay(done: pb.ReplayAnswerResponse) -> None:
    found = done.difference
    out.print(f"[bold]{escape(done.before.question.text)}[/bold]\n")
    out.print("".join(map(_marked, found.text)))
    list_citations(found.lost_citations, "Citations lost")
    list_citations(found.gained_citations, "Citations gained")
    _list_sources(found.lost_sources, "Sources lost")
    _list_sources(found.gained_sources, "Sources gained")
    out.print("\nthe same" if found.same else "\nnot the same")
    for name in found.changed_versions:
        before, after = (getattr(answer.finish.versions, name) for answer in (done.before, done.after))
        out.print(escape(f"{name}: {before or 'none'} -> {after or 'none'}"))
    out.print(f"total: {_total_s(done.before):.2f} s -> {_total_s(done.after):.2f} s")


def _marked(piece: pb.TextPiece) -> str:
    before, after = _SIGNS[piece.change]
    words = piece.text.rstrip()
    marked = escape(f"{before}{words}{after}")
    colour = _COLOURS[piece.change]
    return (f"[{colour}]{marked}[/{colour}]" if colour else marked) + piece.text[len(words) :]


def _list_sources(sources: Any, title: str) -> None:
    if sources:
        out.print(f"\n[bold]{title}[/bold]")
    for source in sources:
        where = place_messages.describe(source.page, source.place)
        span = f"characters {source.span.start}-{source.span.end}"
        out.print(escape(f"  [{source.number}] {source.display_name}{where}, {span}"))


def _replay_json(done: pb.ReplayAnswerResponse) -> dict[str, Any]:
    found = done.difference
    changes = {pb.TEXT_CHANGE_SAME: "same", pb.TEXT_CHANGE_REMOVED: "removed", pb.TEXT_CHANGE_ADDED: "added"}
    return {
        "same": found.same,
        "text": [{"change": changes[piece.change], "text": piece.text} for piece in found.text],
        "gained_sources": [_source_json(source) for source in found.gained_sources],
        "lost_sources": [_source_json(source) for source in found.lost_sources],
        "gained_citations": [citation_json(citation) for citation in found.gained_citations],
        "lost_citations": [citation_json(citation) for citation in found.lost_citations],
        "changed_versions": list(found.changed_versions),
        "before": _whole(done.before),
        "after": _whole(done.after) | {"answer_id": None},
    }


def _summary(answer: pb.StoredAnswer) -> dict[str, Any]:
    finish, versions = answer.finish, answer.finish.versions
    return {
        "answer_id": answer.name.removeprefix("answers/"),
        "question": answer.question.text,
        "answer": answer.text,
        "outcome": _outcome(answer),
        "collection": answer.question.collection,
        "conversation": answer.question.conversation or None,
        "cached_from": finish.cached.answer_id or None,
        "time": answer.create_time.ToJsonString(),
        "versions": {name: getattr(versions, name) for name in ("index", "prompt", "model", "corpus")},
        "seed": finish.seed if finish.HasField("seed") else None,
        "total_s": round(_total_s(answer), 4),
        "feedback": feedback_json(answer.feedback) if answer.HasField("feedback") else None,
    }


def feedback_json(feedback: pb.Feedback) -> dict[str, Any]:
    """What a person said, as JSON shows it."""
    return {
        "good": feedback.rating == pb.RATING_GOOD,
        "better_answer": feedback.better_answer or None,
        "comment": feedback.comment or None,
        "training_consent": feedback.training_consent,
        "time": feedback.create_time.ToJsonString(),
    }


def _tell_feedback(feedback: pb.Feedback) -> None:
    told = ["good" if feedback.rating == pb.RATING_GOOD else "not good"]
    told += [f"better: {feedback.better_answer}"] if feedback.better_answer else []
    told += [f"“{feedback.comment}”"] if feedback.comment else []
    told.append("may be trained on" if feedback.training_consent else "not to be trained on")
    out.print("\n" + escape(f"Rated {'; '.join(told)}"))


def _whole(answer: pb.StoredAnswer) -> dict[str, Any]:
    return _summary(answer) | {
        "citations": [citation_json(citation) for citation in answer.citations],
        "sources": [_source_json(source) for source in answer.sources],
        "settings": MessageToDict(answer.settings),
    }


def _source_json(source: pb.Source) -> dict[str, Any]:
    return {
        "number": source.number,
        "document": source.display_name,
        "document_name": source.document,
        "version": source.document_version,
        "page": source.page or None,
        "start": source.span.start,
        "end": source.span.end,
        "chunks": list(source.chunks),
    }


def answer_name(given: str) -> str:
    """`answers/ID` of what an argument says."""
    return f"answers/{given.removeprefix('answers/')}"


def _time(answer: pb.StoredAnswer) -> str:
    return answer.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")


def _outcome(answer: pb.StoredAnswer) -> str:
    return pb.Outcome.Name(answer.finish.outcome).removeprefix("OUTCOME_").lower()


def _versions(answer: pb.StoredAnswer) -> str:
    versions = answer.finish.versions
    return f"index {versions.index}, prompt {versions.prompt}, {versions.model or 'no model was asked'}"


def _total_s(answer: pb.StoredAnswer) -> float:
    return answer.finish.timings.total.ToTimedelta().total_seconds()
