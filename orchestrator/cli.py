"""`murphey ask`: streams an answer to standard output and lists what it rests on."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mesh import terminal
from mesh.discovery import channel_for
from mesh.errors import Unavailable, translated
from mesh.filter_text import FilterOption, read_filter
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, TargetOption, console
from murphey.generator.v1 import sampling_pb2
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from murphey.retriever.v1 import cache_pb2
from orchestrator import cli_answers, cli_feedback
from orchestrator.cli_citations import citation_json, list_citations
from orchestrator.evaluation import cli as evaluation

TIMEOUT_S = 300.0


def register(root: typer.Typer) -> None:
    """Adds `ask`, `answers`, `replay`, `feedback` and `eval` to the root command."""
    root.command("ask")(ask)
    cli_answers.register(root)
    cli_feedback.register(root)
    evaluation.register(root)


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What you want to know.")],
    collection: Annotated[str, typer.Option(help="The collection to answer from.")] = "default",
    conversation: Annotated[
        str | None, typer.Option(help="The conversation that this continues, as `conversations/ID` or ID.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Passages to retrieve at most, 1 to 100.")] = None,
    model: Annotated[str | None, typer.Option(help="The model; the generator's default one if left out.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2; 0 always takes the likeliest word.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of the answer at most.")] = None,
    strict: Annotated[
        bool | None,
        typer.Option(help="Leave out sentences that the sources do not support; the prompt's default if left out."),
    ] = None,
    split: Annotated[
        bool | None, typer.Option(help="Search in two steps where one leaves words of the question open; or never.")
    ] = None,
    filters: FilterOption = None,
    cache: Annotated[bool, typer.Option(help="Whether kept answers and searches may be used.")] = True,
    as_json: JsonOption = False,
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
) -> None:
    """Ask a question; the answer streams, and its citations follow."""
    asked = pb.Question(
        text=question,
        collection=_named("collections", collection),
        conversation=_named("conversations", conversation),
        passage_limit=limit,
        model=_named("models", model),
        sampling=sampling_pb2.SamplingParams(temperature=temperature, max_tokens=max_tokens),
        strict=strict,
        split=split,
        cache=cache_pb2.CacheControl(no_cache=not cache),
    )

    async def answer() -> None:
        asked.filter.CopyFrom(read_filter(filters))
        await (_print_json(asked, data, target) if as_json else _print_stream(asked, data, target))

    terminal.run(answer())


def _named(kind: str, given: str | None) -> str:
    if not given:
        return ""
    return given if given.startswith(f"{kind}/") else f"{kind}/{given}"


async def _events(question: pb.Question, data: Path, target: str | None) -> AsyncIterator[pb.StreamAnswerResponse]:
    async with channel_for("orchestrator", data, target) as channel:
        request = pb.StreamAnswerRequest(question=question)
        call = OrchestratorServiceStub(channel).StreamAnswer(request, timeout=TIMEOUT_S)
        try:
            with translated("orchestrator"):
                async for event in call:
                    yield event
        finally:
            call.cancel()


async def _print_stream(question: pb.Question, data: Path, target: str | None) -> None:
    citations: list[pb.Citation] = []
    finish: pb.Finish | None = None
    async for event in _events(question, data, target):
        match event.WhichOneof("event"):
            case "started":
                _tell_searches(event.started)
            case "delta":
                terminal.write(event.delta.text)
            case "citation":
                citations.append(event.citation)
            case "finish":
                finish = event.finish
    if finish is None:
        raise Unavailable("The answer broke off. Ask again.")
    terminal.write("\n")
    list_citations(citations)
    _tell_how(finish)


def _tell_searches(started: pb.Started) -> None:
    if started.standalone_question:
        console.print(f"[dim]understood as: {escape(started.standalone_question)}[/dim]", soft_wrap=True)
    for text in started.further_searches:
        console.print(f"[dim]searched for as well: {escape(text)}[/dim]", soft_wrap=True)


def _tell_how(finish: pb.Finish) -> None:
    seconds = finish.timings.total.ToTimedelta().total_seconds()
    if finish.HasField("cached"):
        when = finish.cached.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
        console.print(f"\n[dim]kept from answer {finish.cached.answer_id} of {when} UTC; --no-cache asks anew[/dim]")
        return
    if finish.withheld_sentences:
        left_out = f"{finish.withheld_sentences} of the model's sentences left out: the sources do not support them"
        console.print(f"\n[dim]{left_out}; --no-strict shows all[/dim]", soft_wrap=True)
    words = f"{finish.usage.completion_tokens} tokens in {seconds:.1f} s, index {finish.versions.index}"
    model = f", {finish.versions.model}" if finish.versions.model else ", no model was asked"
    console.print(f"\n[dim]{escape(words + model)}[/dim]", soft_wrap=True)


async def _print_json(question: pb.Question, data: Path, target: str | None) -> None:
    events = [event async for event in _events(question, data, target)]
    if not events or events[-1].WhichOneof("event") != "finish":
        raise Unavailable("The answer broke off. Ask again.")
    finish = events[-1].finish
    citations = [event.citation for event in events if event.WhichOneof("event") == "citation"]
    terminal.print_json(
        {
            "answer": "".join(event.delta.text for event in events),
            "citations": [citation_json(citation) for citation in citations],
            "usage": {
                "prompt_tokens": finish.usage.prompt_tokens,
                "cached_tokens": finish.usage.cached_tokens,
                "completion_tokens": finish.usage.completion_tokens,
            },
            "versions": {
                "index": finish.versions.index,
                "prompt": finish.versions.prompt,
                "model": finish.versions.model,
            },
            "cached_from": finish.cached.answer_id or None,
            "answer_id": events[0].started.answer_id,
            "standalone_question": events[0].started.standalone_question,
            "further_searches": list(events[0].started.further_searches),
            "outcome": pb.Outcome.Name(finish.outcome).removeprefix("OUTCOME_").lower(),
            "conversation": finish.conversation,
            "dropped_markers": finish.dropped_markers,
            "groundedness": round(finish.groundedness, 4) if finish.HasField("groundedness") else None,
            "sentences": [_sentence_json(sentence) for sentence in finish.sentences],
            "withheld_sentences": finish.withheld_sentences,
        }
    )


def _sentence_json(sentence: pb.GroundedSentence) -> dict[str, Any]:
    span = sentence.answer_span
    return {"start": span.start, "end": span.end, "score": round(sentence.score, 4), "supported": sentence.supported}
