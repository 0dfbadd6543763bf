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


async def test_a_path_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    result = await murphey("127.0.0.1:1", "ingest", str(tmp_path / "nowhere"))

    assert result.exit_code == 2
    assert "nowhere" in result.stderr
