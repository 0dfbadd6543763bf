"""`python -m bench`: every benchmark as a command; without a command, all of them one after the other.

A table goes to people, one JSON object (`--json`) to machines, and a copy of it to bench/results. The exit code is 1 when a
figure misses its target.
"""

import json
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench import (
    answer,
    caches,
    durability,
    faults,
    fuzz,
    generate,
    ingest,
    load,
    memory,
    mixed,
    move,
    peer,
    preparing,
    quality,
    rolling,
    search,
    soak,
    stalls,
    start,
    training,
    triton,
    words,
    workers,
)
from bench.children import ChildFailed
from bench.frame import Report, Row
from bench.options import Options

app = typer.Typer(help=__doc__, add_completion=False, pretty_exceptions_enable=False)
RunsOption = Annotated[int, typer.Option("--runs", min=1, help="Runs of each figure; their median counts.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="A tiny workload that shows only that it works.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ShareOption = Annotated[float, typer.Option(min=0.01, max=1.0, help="Share of each corpus that is ingested.")]
MegabytesOption = Annotated[
    float,
    typer.Option(min=0.01, help="Size of the large text file; the target is for 100, which takes about 20 minutes."),
]
PIPED_WIDTH = 160


def main() -> None:
    """The command."""
    app()


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Without a command: all of them, with their defaults."""
    if context.invoked_subcommand is not None:
        return
    peer.PEERS.setup()
    benchmarks: list[Callable[[Options], Report]] = [
        start.run, generate.run, search.run, answer.run, caches.run, quality.run, stalls.run, words.run, ingest.run,
    ]  # fmt: skip
    reports = [_shown(benchmark(Options()), as_json=False) for benchmark in benchmarks]
    raise typer.Exit(0 if all(report.passed for report in reports) else 1)


@app.command("ingest")
def _ingest(
    runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False, share: ShareOption = 1.0
) -> None:
    """Files to searchable chunks, beside the embedder alone, LlamaIndex and LangChain."""
    _finish(ingest.run(Options(runs, quick), share), as_json)


@app.command("search")
def _search(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Searches in 100,000 chunks, one client and 32."""
    _finish(search.run(Options(runs, quick)), as_json)


@app.command("answer")
def _answer(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """What answering adds to the first token, and 16 streams beside the engine alone."""
    _finish(answer.run(Options(runs, quick)), as_json)


@app.command("caches")
def _caches(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Answers that are given again: their time through the mesh, and the memory of 100,000."""
    _finish(caches.run(Options(runs, quick)), as_json)


@app.command("generate")
def _generate(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """1, 8 and 32 streams beside transformers' continuous batching."""
    _finish(generate.run(Options(runs, quick)), as_json)


@app.command("triton")
def _triton(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """16 streams over a Triton server beside a bare tritonclient loop."""
    _finish(triton.run(Options(runs, quick)), as_json)


@app.command("quality")
def _quality(quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """nDCG@10 of hybrid, dense and BM25 on three corpora."""
    _finish(quality.run(Options(1, quick)), as_json)


@app.command("stalls")
def _stalls(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Searches and health checks during a bulk upsert and its index builds."""
    _finish(stalls.run(Options(runs, quick)), as_json)


@app.command("start")
def _start(
    runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False,
    megabytes: MegabytesOption = start.DEFAULT_MEGABYTES,
) -> None:  # fmt: skip
    """Time to healthy, idle memory, and what a large text file adds."""
    _finish(start.run(Options(runs, quick), megabytes), as_json)


@app.command("memory")
def _memory(
    quick: QuickOption = False, as_json: JsonOption = False,
    text_megabytes: Annotated[float, typer.Option(min=0, help="Of the text file; 0 for none.")] = memory.TEXT_MEGABYTES,
    mixed_megabytes: Annotated[float, typer.Option(min=0, help="Of the files; 0 for none.")] = memory.MIXED_MEGABYTES,
) -> None:  # fmt: skip
    """What a large text file adds to the idle mesh, and what mixed files take, without the time of embedding."""
    _finish(memory.run(Options(1, quick), text_megabytes, mixed_megabytes), as_json)


@app.command("mixed")
def _mixed(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Files of many formats to searchable chunks, beside the embedder alone."""
    _finish(mixed.run(Options(runs, quick)), as_json)


@app.command("workers")
def _workers(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Two ingest workers beside one on small files, and an unchanged folder again."""
    _finish(workers.run(Options(runs, quick)), as_json)


@app.command("words")
def _words(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Unit costs for `murphey plan`: the search by words at two sizes, words and fields of a chunk."""
    _finish(words.run(Options(runs, quick)), as_json)


@app.command("move")
def _move(runs: RunsOption = 1, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """A collection of 100,000 chunks from the embedded store to a Qdrant server, and whether both answer the same."""
    _finish(move.run(Options(runs, quick)), as_json)


@app.command("training")
def _training(runs: RunsOption = 3, quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Pretraining on tinyshakespeare by characters, beside a minimal loop and nanoGPT's published loss."""
    _finish(training.run(Options(runs, quick)), as_json)


@app.command("preparing")
def _preparing(
    quick: QuickOption = False, as_json: JsonOption = False,
    planted: Annotated[int, typer.Option(min=1, help="Near duplicates to plant.")] = preparing.PLANTED,
) -> None:  # fmt: skip
    """Training text: planted near duplicates that are found, speed of each step, memory."""
    _finish(preparing.run(Options(1, quick), planted), as_json)


@app.command("durability")
def _durability(
    kills: Annotated[int, typer.Option(min=1, help="So many kills.")] = durability.KILLS,
    documents: Annotated[int, typer.Option(min=1, help="Documents that are ingested meanwhile.")] = durability.DOCUMENTS,
    seed: Annotated[int | None, typer.Option(help="The run that this number stands for; at random without.")] = None,
    quick: QuickOption = False, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """kill -9 of ingest workers, the retriever and their child processes, at random, over one ingest."""
    _finish(durability.run(Options(1, quick), kills, documents, seed), as_json)


@app.command("load")
def _load(
    quick: QuickOption = False, as_json: JsonOption = False,
    target: Annotated[str | None, typer.Option(help="An orchestrator or gateway; without, a mesh of its own.")] = None,
    real: Annotated[bool, typer.Option("--real", help="The default model instead of a tiny one.")] = False,
    rates: Annotated[str, typer.Option(help="Requests a second, with commas; without, multiples of the capacity.")] = "",
    seconds: Annotated[float, typer.Option(min=0.5, help="At each rate.")] = load.Workload.seconds,
    deadline_s: Annotated[float, typer.Option(min=0.1, help="Of an answer.")] = load.Workload.deadline_s,
    tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = load.Workload.tokens,
) -> None:  # fmt: skip
    """Answers at fixed rates up to five times what the mesh can give; draws the curve."""
    workload = None if quick else load.Workload(seconds=seconds, deadline_s=deadline_s, tokens=tokens)
    fixed = tuple(float(rate) for rate in rates.split(",") if rate)
    _finish(load.run(Options(1, quick), workload, target, real, fixed), as_json)


@app.command("rolling")
def _rolling(
    quick: QuickOption = False, as_json: JsonOption = False,
    rate: Annotated[float, typer.Option(min=0.1, help="Answers a second.")] = rolling.RATE,
) -> None:  # fmt: skip
    """Two of each service but the retriever, each restarted in turn under load: no request may fail."""
    _finish(rolling.run(Options(1, quick), rate), as_json)


@app.command("faults")
def _faults(quick: QuickOption = False, as_json: JsonOption = False) -> None:
    """Every dependency x latency, reset, partition, slow reader, half-open; kill -9 and a full disk: what clients saw."""
    _finish(faults.run(Options(1, quick)), as_json)


@app.command("soak")
def _soak(
    quick: QuickOption = False, as_json: JsonOption = False,
    minutes: Annotated[float, typer.Option(min=0.1, help="So long.")] = soak.MINUTES,
    real: Annotated[bool, typer.Option("--real", help="The default model instead of a tiny one.")] = False,
) -> None:  # fmt: skip
    """A light mixed load for a long time: memory, open files, errors."""
    _finish(soak.run(Options(1, quick), minutes, real), as_json)


@app.command("fuzz")
def _fuzz(
    quick: QuickOption = False, as_json: JsonOption = False,
    requests: Annotated[int, typer.Option(min=0, help="Mutated requests; 0 for none.")] = fuzz.REQUESTS,
    documents: Annotated[int, typer.Option(min=0, help="Damaged documents; 0 for none.")] = fuzz.DOCUMENTS,
    seed: Annotated[int | None, typer.Option(help="The run that this number stands for; at random without.")] = None,
) -> None:  # fmt: skip
    """Mutated requests to every RPC and damaged documents to the parsers: nothing may break."""
    _finish(fuzz.run(Options(1, quick), requests, documents, seed), as_json)


@app.command("setup-peers")
def _setup_peers(
    vllm: Annotated[bool, typer.Option("--vllm", help="vLLM too; about 6 GB, x86-64 Linux.")] = False,
    only_triton: Annotated[
        bool, typer.Option("--triton", help="A Triton server, for the tests, and nothing else.")
    ] = False,
) -> None:
    """Install the peers into .venv-bench."""
    try:
        for environment in [peer.TRITON] if only_triton else [peer.PEERS, *([peer.VLLM] if vllm else [])]:
            environment.setup()
            print(environment.folder)
    except ChildFailed as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error


def _finish(report: Report, as_json: bool) -> None:
    _shown(report, as_json)
    raise typer.Exit(0 if report.passed else 1)


def _shown(report: Report, as_json: bool) -> Report:
    path = report.save()
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(), ensure_ascii=False) + "\n")
        return report
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(_table(report))
    for note in report.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"[dim]{path}[/dim]")
    return report


def _table(report: Report) -> Table:
    machine = report.machine
    runs = max(len(row.figures) for row in report.rows)
    title = f"{report.benchmark}: median of {runs}, {machine['cores']} cores, load {machine['load_1_min']}"
    table = Table(title=title + (" (quick: figures mean nothing)" if report.quick else ""), title_justify="left")
    for column in ("what", "median", "unit", "beside", "its median", "ratio", "target", ""):
        table.add_column(column, justify="right" if column in ("median", "its median", "ratio") else "left")
    for row in report.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    shown = row.as_json()
    reference = [shown["reference"]["name"], f"{shown['reference']['median']:,.4g}"] if row.reference else ["", ""]
    ratio = f"{row.ratio:.3g}" if row.ratio is not None else ""
    verdict = {True: "[green]met[/green]", False: "[red]missed[/red]", None: ""}[row.passed]
    return [
        row.name,
        f"{row.median:,.4g}",
        row.unit,
        *reference,
        ratio,
        row.target.text() if row.target else "",
        verdict,
    ]
