"""`murphey eval retrieval | answers | calibrate | list | show`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mesh import terminal
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, NotFound
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption, RerankerOption, RerankOption, TargetOption
from orchestrator.evaluation.clients.collections import CollectionSettings
from orchestrator.evaluation.records import Kind
from orchestrator.evaluation.runs import RunStore
from orchestrator.evaluation.sets import Part
from orchestrator.splitting import Split

if TYPE_CHECKING:
    from orchestrator.evaluation.running import Evaluated, Plan

SetArgument = Annotated[
    Path, typer.Argument(metavar="SET", help="A folder in BEIR's form, or a CSV file: question, answer?, document?.")
]
CollectionOption = Annotated[
    str | None,
    typer.Option("--collection", "-c", help="Ask this one; left out, the set's corpus is taken into one of its own."),
]
CompareOption = Annotated[
    str | None, typer.Option("--compare", metavar="RUN", help="A run to compare with, or latest.")
]
GateOption = Annotated[
    list[str] | None,
    typer.Option("--gate", help="Fail unless it holds, such as 'ndcg@10>=0.46'; may be repeated."),
]
PartOption = Annotated[
    Part, typer.Option("--part", help="All questions, or the half to tune on, or the half to report.")
]
CountOption = Annotated[
    int | None, typer.Option("--questions", min=1, help="Ask so many of them, always the same ones.")
]
GoldOption = Annotated[bool, typer.Option("--gold-documents", help="Only in the documents that are judged relevant.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Begin anew, even if such a run was broken off.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run, the beginning of its name, or latest.")]
EmbedderOption = Annotated[str, typer.Option(help="Embedder of the set's own collection; the default one if left out.")]
ChunkTokensOption = Annotated[int, typer.Option(min=0, help="Tokens of its chunks at most; 0 is the default.")]
OverlapTokensOption = Annotated[int | None, typer.Option(min=0, help="Tokens that neighbouring chunks share.")]
LanguageOption = Annotated[str, typer.Option(help="Language of its words for BM25, such as german, or auto.")]

Result = TypeVar("Result")


def register(root: typer.Typer) -> None:
    """Adds the group `eval`."""
    group = typer.Typer(help="Measure retrieval and answers on a labelled set.", no_args_is_help=True)
    for name, command in (
        ("retrieval", _retrieval), ("answers", _answers), ("calibrate", _calibrate), ("list", _list), ("show", _show),
    ):  # fmt: skip
        group.command(name)(command)
    root.add_typer(group, name="eval")


def _retrieval(
    path: SetArgument,
    collection: CollectionOption = None,
    mode: Annotated[str, typer.Option(help="hybrid, dense or sparse.")] = "hybrid",
    limit: Annotated[int, typer.Option(min=10, max=1000, help="Passages to ask for.")] = 200,
    split: Annotated[Split, typer.Option(help="Questions to search for in two steps, as answers do.")] = Split.NEVER,
    gold_documents: GoldOption = False,
    rerank: RerankOption = False,
    reranker: RerankerOption = "",
    part: PartOption = Part.ALL,
    questions: CountOption = None,
    compare: CompareOption = None,
    gate: GateOption = None,
    fresh: FreshOption = False,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Questions at once.")] = 4,
    embedder: EmbedderOption = "",
    chunk_tokens: ChunkTokensOption = 0,
    overlap_tokens: OverlapTokensOption = None,
    language: LanguageOption = "",
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well the right documents are found: nDCG, recall, MRR, MAP. A grade of 1 and more is relevant."""
    from orchestrator.evaluation.running import Plan  # with scorers whose import no other command should wait for

    if mode not in ("hybrid", "dense", "sparse"):
        terminal.fail(f"--mode {mode} is unknown: hybrid, dense and sparse are known.", code=2)
    own = CollectionSettings(embedder, chunk_tokens, overlap_tokens, language)
    plan = Plan(
        Kind.RETRIEVAL, path, data, target, collection, own, part, questions, at_once, mode=mode, limit=limit, split=split,
        reranker=reranker if rerank or reranker else None,
        gold_documents=gold_documents, compare_with=compare, gates=tuple(gate or ()), fresh=fresh,
    )  # fmt: skip
    _run(plan, as_json)


def _answers(
    path: SetArgument,
    collection: CollectionOption = None,
    model: Annotated[str, typer.Option(help="The model; the generator's default one if left out.")] = "",
    passages: Annotated[int | None, typer.Option(min=1, max=100, help="Passages to retrieve at most.")] = None,
    gold_documents: GoldOption = False,
    split: Annotated[
        bool | None, typer.Option(help="Search in two steps, or never; the orchestrator's default if left out.")
    ] = None,
    part: PartOption = Part.ALL,
    questions: CountOption = None,
    compare: CompareOption = None,
    gate: GateOption = None,
    fresh: FreshOption = False,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Questions at once; more make each one slower.")] = 4,
    embedder: EmbedderOption = "",
    chunk_tokens: ChunkTokensOption = 0,
    overlap_tokens: OverlapTokensOption = None,
    language: LanguageOption = "",
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure answers: right ones, "I do not know" where it is due, citations that hold, tokens, latency."""
    from orchestrator.evaluation.running import Plan  # with scorers whose import no other command should wait for

    own = CollectionSettings(embedder, chunk_tokens, overlap_tokens, language)
    plan = Plan(
        Kind.ANSWERS, path, data, target, collection, own, part, questions, at_once, model=model,
        passage_limit=passages, asked_split=split, gold_documents=gold_documents, compare_with=compare,
        gates=tuple(gate or ()), fresh=fresh,
    )  # fmt: skip
    _run(plan, as_json)


def _calibrate(
    path: SetArgument,
    collection: CollectionOption = None,
    keep: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Share of answerable questions that are to be answered.")
    ] = 0.97,
    questions: CountOption = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Questions at once.")] = 4,
    embedder: EmbedderOption = "",
    chunk_tokens: ChunkTokensOption = 0,
    overlap_tokens: OverlapTokensOption = None,
    language: LanguageOption = "",
    data: DataOption = DEFAULT_DATA,
    target: TargetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the relevance below which questions are declined: chosen on one half of a set, reported on the other."""
    from orchestrator.evaluation import calibration, printing, running

    own = CollectionSettings(embedder, chunk_tokens, overlap_tokens, language)
    plan = running.Plan(Kind.ANSWERS, path, data, target, collection, own, count=questions, at_once=at_once)
    prepared = _checked(lambda: running.prepare(plan))
    _checked(lambda: calibration.check(prepared.questions))
    with printing.Bars(quiet=as_json) as bars:
        found = terminal.run(calibration.calibrate(prepared, keep, bars))
    name = prepared.set.name
    terminal.print_json(calibration.as_json(found, name)) if as_json else printing.print_calibration(found)


def _list(data: DataOption = DEFAULT_DATA, as_json: JsonOption = False) -> None:
    """List the runs of a data folder, the newest first."""
    from orchestrator.evaluation import printing

    headers = _checked(RunStore(data).headers)
    terminal.print_json({"runs": [printing.header_json(header) for header in headers]}) if as_json else (
        printing.print_runs(headers)
    )


def _show(
    run: RunArgument, compare: CompareOption = None, data: DataOption = DEFAULT_DATA, as_json: JsonOption = False
) -> None:
    """Show a run's figures and versions, and write its report anew."""
    from orchestrator.evaluation.running import Evaluated, compared

    store = RunStore(data)
    now = _checked(lambda: store.load(run))
    before = _checked(lambda: store.load(compare)) if compare else None
    _finish(Evaluated(now, [], before, _checked(lambda: compared(before, now)) if before else []), as_json)


def _run(plan: "Plan", as_json: bool) -> None:
    from orchestrator.evaluation import printing, running

    prepared = _checked(lambda: running.prepare(plan))
    with printing.Bars(quiet=as_json) as bars:
        evaluated = terminal.run(running.evaluate(prepared, bars))
    _finish(evaluated, as_json)


def _finish(evaluated: "Evaluated", as_json: bool) -> None:
    """Writes the report, prints the figures, and exits with 1 when a gate failed."""
    from orchestrator.evaluation import printing, report

    page = report.write(evaluated)
    terminal.print_json(printing.as_json(evaluated, page)) if as_json else printing.print_run(evaluated, page)
    failed = [judged for judged in evaluated.gates if not judged.passed]
    for judged in failed:
        value = "was not measured" if judged.value is None else f"is {judged.value:.4f}"
        terminal.console.print(f"gate failed: {judged.gate.text}; {judged.gate.metric} {value}", markup=False)
    if failed:
        raise typer.Exit(1)


def _checked(work: Callable[[], Result]) -> Result:
    """What is wrong with the command's own input is wrong usage."""
    try:
        return work()
    except (InvalidInput, NotFound, FailedPrecondition) as error:
        terminal.fail(error.message, code=2)
    except MurpheyError as error:
        terminal.fail(error.message)
