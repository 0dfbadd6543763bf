"""`murphey train tokenizer CORPUS --out DIR`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mesh import terminal
from mesh.settings import of_mesh
from mesh.terminal import DEFAULT_DATA, DataOption, JsonOption
from training.checking import checked
from training.extra import installed


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command("tokenizer")(_tokenizer)


def _tokenizer(
    corpus: Annotated[Path, typer.Argument(metavar="CORPUS", help="A folder that was collected into or prepared.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the tokenizer.")],
    vocabulary: Annotated[int, typer.Option(help="Tokens, special ones included.")] = 32_000,
    sample_mb: Annotated[int, typer.Option(min=1, help="Text to train on at most; the rest adds little.")] = 1_000,
    compare: Annotated[
        str, typer.Option(help="A model or folder whose tokenizer stands beside it; empty for none.")
    ] = "",
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Make a byte-level BPE tokenizer with chat tokens, check that it gives every text back, and measure it."""
    with installed():
        from training.progress import Bar
        from training.tokenizer import making, reference

    beside = checked(lambda: reference.load(compare, of_mesh(data).models)) if compare else None
    order = making.Order(corpus, out, vocabulary, sample_mb * 1_000_000, beside, compare)
    with Bar("checking", None, in_bytes=True, quiet=as_json) as bar:
        report = checked(lambda: making.make(order, lambda stage, done: bar.show(done, name=stage)))
    terminal.print_json(report) if as_json else _show(report, out)


def _show(report: dict[str, Any], out: Path) -> None:
    words = f"{report['vocabulary']} tokens from {report['trained_on_bytes'] / 1e6:,.1f} MB, in {out}"
    terminal.out.print(words, markup=False)
    terminal.out.print(f"{report['round_trips']} strings, all of Unicode among them, came back as they were")
    headers = ["language", "words", "tokens a word", "bytes a token"]
    rows = [
        [language, str(each["words"]), f"{each['tokens_a_word']:.3f}", f"{each['bytes_a_token']:.2f}"]
        for language, each in report["fertility"].items()
    ]
    if report["beside"]:
        headers.append(f"tokens a word of {report['beside']}")
        for row, each in zip(rows, report["fertility"].values(), strict=True):
            row.append(f"{each['beside_tokens_a_word']:.3f}")
    terminal.print_table(headers, rows)
