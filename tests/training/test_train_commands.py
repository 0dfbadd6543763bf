"""The commands of collecting, preparing and making a tokenizer, as people call them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mesh.cli import build
from tests.training import prose
from tests.training.test_collect_wikipedia import dump, page


def murphey(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["train", *map(str, arguments)])


def folder(path: Path, count: int = 40) -> Path:
    path.mkdir()
    for number in range(count):
        (path / f"{number}.txt").write_text(prose.article(number))
    return path


def test_from_files_to_a_tokenizer(tmp_path: Path) -> None:
    texts = folder(tmp_path / "texts")
    done = murphey("collect", "folder", texts, "--licence", "CC0-1.0", "--out", tmp_path / "collected", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["records"] == 40
    done = murphey("prepare", tmp_path / "collected", "--out", tmp_path / "prepared", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["documents"] == 40
    done = murphey("tokenizer", tmp_path / "prepared", "--out", tmp_path / "tokenizer", "--vocabulary", 500, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["vocabulary"] == 500
    assert (tmp_path / "tokenizer" / "tokenizer.json").exists()


def test_people_see_counts_and_reasons(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.xml", page(1), page(2, redirect=True))
    done = murphey("collect", "wikipedia", path, "--out", tmp_path / "wiki")
    assert done.exit_code == 0
    assert "1 records" in done.output
    assert "left out: 1 redirect" in done.output
    assert murphey("collect", "wikipedia", path, "--out", tmp_path / "wiki").exit_code == 0
    done = murphey("prepare", tmp_path / "wiki", "--out", tmp_path / "prepared")
    assert done.exit_code == 1
    assert "No text is left" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("collect", "wikipedia", "nowhere.xml", "--out", "out"), "There is no file nowhere.xml"),
        (("collect", "reddit", "nowhere.zst", "--out", "out"), "There is no file nowhere.zst"),
        (("collect", "reddit", "--out", "out"), "--subreddit"),
        (("collect", "github", "a/b/c", "--out", "out"), "no OWNER/NAME"),
        (("collect", "folder", "nowhere", "--licence", "MIT", "--out", "out"), "There is no folder"),
        (("prepare", "nowhere", "--out", "out"), "is not a folder"),
        (("prepare", ".", "--out", "out", "--option", "x"), "KEY=VALUE"),
        (("tokenizer", "nowhere", "--out", "out"), "is not a folder"),
        (("gate", "set", "--candidate", "new", "--part", "half"), "'half' is not one of"),
        (("triples", "set", "--collection", "c", "--out", "out", "--part", "half"), "'half' is not one of"),
        (("tokenizer", "nowhere", "--out", "out", "--compare", "no-such-model"), "no-such-model"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = murphey(*arguments)
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert not (tmp_path / "out").exists()


def test_without_the_extra_a_command_says_what_to_install(tmp_path: Path) -> None:
    """In a process in which its packages cannot be imported."""
    program = (
        "import sys\n"
        "for name in ('zstandard', 'datatrove', 'mwparserfromhell', 'praw', 'orjson'): sys.modules[name] = None\n"
        "from mesh.cli import main\n"
        f"sys.argv = ['murphey', 'train', 'prepare', {str(tmp_path)!r}, '--out', 'x']\n"
        "main()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "pip install 'murphey[training]'" in done.stderr
