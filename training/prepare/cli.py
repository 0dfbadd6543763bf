"""`murphey train prepare CORPUS… --out DIR`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh import terminal
from mesh.terminal import JsonOption
from training.checking import checked
from training.extra import installed

_INTERRUPTED = "Interrupted. The same command goes on where this one ended."


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command("prepare")(_prepare)


def _prepare(
    corpus: Annotated[list[Path], typer.Argument(metavar="CORPUS", help="Folders that were collected into.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder, or one in which the same command was broken off.")],
    language: Annotated[
        list[str] | None, typer.Option(help="Only this language, by ISO 639-1; may be repeated.")
    ] = None,
    quality: Annotated[bool, typer.Option(help="Apply the rules of Gopher, C4 and FineWeb.")] = True,
    personal: Annotated[
        bool, typer.Option(help="Mask e-mail and network addresses, accounts, cards, telephones.")
    ] = True,
    near_duplicates: Annotated[bool, typer.Option(help="Drop near duplicates, by MinHash.")] = True,
    evaluation_set: Annotated[
        list[Path] | None, typer.Option(help="Drop texts that hold its questions or answers; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes at once; on a cluster, tasks.")] = 1,
    executor: Annotated[str, typer.Option(help="local, slurm or ray.")] = "local",
    option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for datatrove's executor of Slurm or Ray, such as partition=cpu."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose, clean and deduplicate collected text, and write a report of what each step dropped."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # datatrove's own bars; it is read where tqdm is imported first
    with installed():
        from training.prepare.preparing import Order, prepare
        from training.prepare.settings import Machines, Rules
        from training.progress import Bar

    rules = Rules(
        tuple(language or ()), quality=quality, personal=personal, near_duplicates=near_duplicates,
        evaluation_sets=tuple(evaluation_set or ()),
    )  # fmt: skip
    machines = Machines(executor, workers, checked(lambda: read_options(option or ())))
    order = Order(tuple(corpus), out, rules, machines)
    with Bar("checking", None, in_bytes=True, quiet=as_json) as bar:
        try:
            manifest = checked(lambda: prepare(order, lambda name, done, total: bar.show(done, name=name, total=total)))
        except KeyboardInterrupt:
            terminal.console.print(_INTERRUPTED)
            raise typer.Exit(130) from None
    if manifest is None:
        terminal.out.print(f"Handed to {executor}; {out}/prepared.json is there when it is done.", markup=False)
        return
    terminal.print_json({"folder": str(out), **manifest}) if as_json else _show(manifest, out)
    if not manifest["documents"]:
        terminal.fail(f"No text is left. {out}/report.html says which step dropped what.")


def read_options(given: Any) -> dict[str, Any]:
    """`time=20:00:00` and the like; whole numbers are numbers. InvalidInput for what has no `=`."""
    from mesh.errors import InvalidInput

    found: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key.isidentifier():
            raise InvalidInput(f"--option {each} is not of the form KEY=VALUE.")
        found[key] = int(value) if value.isdecimal() else value
    return found


def _show(manifest: dict[str, Any], out: Path) -> None:
    rows = [
        (
            step["step"], str(step["documents_in"]), str(step["documents_out"]),
            "" if step["mb_a_second"] is None else f"{step['mb_a_second']:.1f}",
            ", ".join(f"{count} {reason}" for reason, count in step["dropped"].items()),
        )
        for step in manifest["steps"]
    ]  # fmt: skip
    terminal.print_table(("step", "in", "out", "MB/s a core", "dropped"), rows)
    words = f"{manifest['documents']} of {manifest['documents_read']} documents, {manifest['bytes'] / 1e6:,.1f} MB, in {out}"
    terminal.out.print(words, markup=False)
    terminal.out.print(f"report: {out / 'report.html'}", markup=False)
