"""What `murphey train collect collection` reads of an ingest service: every live document's whole text, and where to go on."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from tests.ingest.conftest import Service
from training import records

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]
PART_CHARACTERS = 100
MAIN = "from mesh.cli import main; main()"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(shared_service: Service) -> Service:
    for number in range(5):
        await shared_service.ingest(
            f"note-{number}.txt", f"Note {number} says that the tide comes at {number}.".encode()
        )
    licensed = ParseDict({"licence": "MIT", "source": "https://example.org/long"}, Struct())
    text = "\n\n".join(f"Paragraph {number} of a long text." for number in range(40))
    await shared_service.ingest("long.txt", text.encode(), metadata=licensed)
    await shared_service.ingest("broken.pdf", b"%PDF-1.7 and nothing else")
    return shared_service


async def murphey(service: Service, out: Path, *options: str, collection: str = "default") -> tuple[int, str, str]:
    """The command in a process of its own: exit code, output, errors."""
    program = f"from training.collect import collections; collections.PART_CHARACTERS = {PART_CHARACTERS}\n{MAIN}"
    arguments = ["train", "collect", "collection", collection, "--licence", "CC-BY-4.0", "--out", str(out)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, "--target", service.address, "--json", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )  # fmt: skip
    output, errors = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode or 0, output.decode(), errors.decode()


async def run(service: Service, out: Path, *options: str) -> list[records.Record]:
    code, output, errors = await murphey(service, out, *options)
    assert code == 0, errors
    return [record for name in json.loads(output)["files"] for record in records.read(out / name)]


async def test_live_documents_become_records(filled: Service, tmp_path: Path) -> None:
    found = await run(filled, tmp_path / "out")
    by_name = {record.metadata["name"]: record for record in found}
    assert sorted(by_name) == ["long.txt", *(f"note-{number}.txt" for number in range(5))]
    long = by_name["long.txt"]
    assert long.text == await filled.text(await filled.document("long.txt"))
    assert len(long.text) > 500
    assert (long.licence, long.source) == ("MIT", "https://example.org/long")
    note = by_name["note-3.txt"]
    assert (note.text, note.licence) == ("Note 3 says that the tide comes at 3.", "CC-BY-4.0")
    assert note.source.startswith("murphey:collections/default/documents/")
    assert note.date.endswith("Z")


async def test_it_goes_on_where_it_was_broken_off(filled: Service, tmp_path: Path) -> None:
    assert len(await run(filled, tmp_path / "out", "--limit", "2")) == 2
    found = await run(filled, tmp_path / "out")
    assert found == await run(filled, tmp_path / "whole")
    assert len(found) == 6


async def test_a_collection_without_documents_is_told(filled: Service, tmp_path: Path) -> None:
    code, _, errors = await murphey(filled, tmp_path / "out", collection="other")
    assert code == 2
    assert "There is no collection other" in errors
    assert not (tmp_path / "out").exists()
