"""What commands print: tables of which nothing is cut off, and texts of others that do not steer the terminal."""

import io
import json
import subprocess
import sys

import pytest
from rich.text import Text

from mesh import terminal
from mesh.terminal import _Screen

JOB = "jobs/660e5150694831d9abc"
ESCAPES = "\x1b]0;a title\x07 \x1b[2J \x9b1m \u202e"


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, *, width: int | None, rows: list[list[str]]) -> str:
    file = io.StringIO()
    monkeypatch.setattr(
        terminal,
        "out",
        _Screen(file=file, width=width or 80, force_terminal=bool(width), no_color=True, soft_wrap=True),
    )
    terminal.print_table(["job", "document", "error"], rows)
    return Text.from_ansi(file.getvalue()).plain


def test_a_row_is_a_line_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, width=None, rows=[[JOB, "reports/" + "long " * 40 + "name.pdf", "why\n" * 60]])
    assert len(text.splitlines()) == 2
    assert JOB in text
    assert "name.pdf" in text
    assert "…" not in text


def test_a_terminal_folds_and_keeps_names_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, width=60, rows=[[JOB, "x" * 70, "y" * 70], [JOB, "short", ""]])
    assert all(len(line) <= 60 for line in text.splitlines())
    assert text.count(JOB) == 2
    assert (text.count("x"), text.count("y")) == (70, 70)


def test_brackets_in_a_cell_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, width=60, rows=[["a [/b].txt", "[red]name.txt", "[/v1] failed"]])
    assert "a [/b].txt" in text
    assert "[red]name.txt" in text
    assert "[/v1] failed" in text


def test_nothing_that_is_shown_steers_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Terminal()
    screen = _Screen(file=file, force_terminal=True, no_color=True, highlight=False)
    screen.print(ESCAPES, markup=False)
    monkeypatch.setattr(sys, "stdout", file)
    terminal.write(f"line\n\t{ESCAPES}\n")
    shown = file.getvalue()
    assert not set("\x1b\x07\x9b\u202e") & set(shown)
    assert r"\x1b[2J" in shown
    assert "line\n\t" in shown


def test_what_goes_to_a_file_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    terminal.write(ESCAPES)
    assert file.getvalue() == ESCAPES


def test_json_is_json_in_any_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    terminal.print_json({"text": "naïve “quote” 漢"})
    assert json.loads(written.getvalue()) == {"text": "naïve “quote” 漢"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [["search"], ["ask"], ["documents", "show"], ["search", "question", "--filter"]])
def test_an_argument_that_is_not_utf8_is_named(command: list[str]) -> None:
    program = [
        sys.executable,
        "-c",
        "from mesh.cli import main; main()",
        *command,
        b"gr\xff",
        "--target",
        "127.0.0.1:1",
    ]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "not UTF-8" in done.stderr
    assert r"gr\udcff" in done.stderr
    assert "Traceback" not in done.stderr
