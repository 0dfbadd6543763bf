"""`murphey ingest`, `documents` and `jobs`, against a running service."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ingest.conftest import Service, running_service

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Result:
    """Of a command."""

    exit_code: int
    stdout: str
    stderr: str


async def murphey(address: str, *arguments: str) -> Result:
    """Runs a command in a process of its own."""
    program = "import typer; from ingest import cli; root = typer.Typer(); cli.register(root); root()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "MURPHEY_TARGET": address, "COLUMNS": "300"},
    )  # fmt: skip
    stdout, stderr = await asyncio.wait_for(process.communicate(), 60)
    return Result(process.returncode or 0, stdout.decode(), stderr.decode())


def lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


async def test_a_folder_is_ingested_and_a_bad_file_named(tmp_path: Path, tokenizer_folder: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "sub").mkdir(parents=True)
    (docs / "a.md").write_text("# A\n\nWords.")
    (docs / "sub" / "b.txt").write_text("Other words.")
    (docs / "empty.txt").touch()
    async with running_service(tmp_path / "data", tokenizer_folder) as service:
        first = await murphey(service.address, "ingest", str(docs), "--json", "--meta", "year=2024")
        again = await murphey(service.address, "ingest", str(docs), "--json", "--meta", "year=2024")
        (docs / "a.md").write_text("# A\n\nChanged.")
        changed = await murphey(service.address, "ingest", str(docs / "a.md"), "--json", "--meta", "year=2024")
        summary = await murphey(service.address, "ingest", str(docs / "a.md"))
        await check_listings(service)

    assert (first.exit_code, again.exit_code, changed.exit_code, summary.exit_code) == (1, 1, 0, 0)
    by_name = {line["document"]: line for line in lines(first)}
    assert set(by_name) == {"a.md", "sub/b.txt", "empty.txt"}
    assert set(by_name["a.md"]) == {"path", "document", "status", "chunks", "error"}
    assert (by_name["a.md"]["status"], by_name["a.md"]["error"]) == ("indexed", None)
    assert by_name["empty.txt"]["status"] == "failed"
    assert "empty" in str(by_name["empty.txt"]["error"])
    assert "empty.txt" in first.stderr
    assert {line["status"] for line in lines(again)} == {"unchanged", "failed"}
    assert [line["status"] for line in lines(changed)] == ["replaced"]
    assert "1 files:" in summary.stdout


async def check_listings(service: Service) -> None:
    listed = json.loads((await murphey(service.address, "documents", "list", "--json")).stdout)["documents"]
    assert [item["document"] for item in listed] == ["a.md", "empty.txt", "sub/b.txt"]
    text = await murphey(service.address, "documents", "text", "sub/b.txt", "--start", "6")
    assert text.stdout == "words."
    only_failed = await murphey(service.address, "documents", "list", "--state", "failed", "--json")
    failed = json.loads(only_failed.stdout)["documents"]
    assert [item["document"] for item in failed] == ["empty.txt"]
    job = str(failed[0]["job"])
    shown = lines(await murphey(service.address, "jobs", "show", job, "--json"))[0]
    assert (shown["state"], shown["document"]) == ("failed", "empty.txt")
    assert (await murphey(service.address, "jobs", "retry", job)).exit_code == 0
    assert (await murphey(service.address, "jobs", "watch", job)).exit_code == 1
    deleted = await murphey(service.address, "documents", "delete", "a.md", "empty.txt", "--json")
    assert [line["document"] for line in lines(deleted)] == ["a.md", "empty.txt"]
    missing = await murphey(service.address, "documents", "show", "a.md")
    assert missing.exit_code == 1
    assert "a.md" in missing.stderr
    mistyped = await murphey(service.address, "documents", "list", "--collection", "defualt")
    assert (mistyped.exit_code, mistyped.stdout) == (1, "")
    assert "There is no collection defualt" in mistyped.stderr


async def test_a_folder_is_synchronised(tmp_path: Path, tokenizer_folder: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("a", "b"):
        (docs / f"{name}.txt").write_text(f"Words of {name}.")
    (docs / "a.txt.meta.json").write_text('{"author": "Ada"}')
    (tmp_path / "table.csv").write_text("path,year\nb.txt,2024\ngone.txt,2023\n")
    order = ("ingest", str(docs), "--sync", "--meta-csv", str(tmp_path / "table.csv"))
    async with running_service(tmp_path / "data", tokenizer_folder) as service:
        dry = await murphey(service.address, *order, "--dry-run")
        first = await murphey(service.address, *order, "--json")
        (docs / "a.txt").unlink()
        (docs / "c\nd.txt").write_text("Words.")
        (docs / "out").symlink_to(tmp_path / "table.csv")
        dry_again = await murphey(service.address, *order, "--dry-run", "--json")
        again = await murphey(service.address, *order, "--json")
        (docs / "b.txt").unlink()
        (docs / "c\nd.txt").unlink()
        (docs / "out").unlink()
        empty = await murphey(service.address, *order)
        listed = json.loads((await murphey(service.address, "documents", "list", "--json")).stdout)["documents"]
        forced = await murphey(service.address, *order, "--force")

    assert (dry.exit_code, first.exit_code, again.exit_code, forced.exit_code) == (0, 0, 1, 0)
    assert "It would be: 2 files: 2 indexed" in dry.stdout
    assert "gone.txt, which is not among the files" in first.stderr
    statuses = {(line["document"], line["status"]) for line in lines(dry_again)}
    assert statuses == {("a.txt", "removed"), ("b.txt", "unchanged"), ("c\nd.txt", "failed"), ("out", "failed")}
    assert {(line["document"], line["status"]) for line in lines(again)} == statuses
    removed = next(line for line in lines(again) if line["status"] == "removed")
    assert removed == {
        "path": str(docs / "a.txt"),
        "document": "a.txt",
        "status": "removed",
        "chunks": 1,
        "error": None,
    }
    assert f"{docs}/c\\nd.txt: " in again.stderr
    assert empty.exit_code == 1
    assert "--force" in empty.stderr
    assert [(item["document"], item["metadata"]) for item in listed] == [("b.txt", {"year": 2024})]
    assert "1 removed" in forced.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "nowhere"), (["ftp://h/x"], "ftp://h/x"), ([".", "--meta", "year"], "year"),
        ([".", "--watch", "--dry-run"], "--dry-run"), ([".", "--meta-csv", "nowhere.csv"], "nowhere.csv"),
        (["https://h/x", "--sync"], "--sync"),
    ],
)  # fmt: skip
async def test_wrong_usage_is_told_before_anything_is_done(arguments: list[str], named: str) -> None:
    result = await murphey("127.0.0.1:1", "ingest", *arguments)

    assert result.exit_code == 2
    assert named in result.stderr
