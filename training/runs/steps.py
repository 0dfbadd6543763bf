"""Steps of a run: each makes a folder whose name tells its inputs, and is left out when the folder is there.

Another setting, other data or another step before gives another folder, so nothing is made twice and nothing is overwritten.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.surroundings import environment

DONE = "done.json"
LOG = "steps.jsonl"


@dataclass(frozen=True)
class Made:
    """What a step left: its folder, and the figures and facts that it told."""

    folder: Path
    inputs: str
    facts: dict[str, Any]
    skipped: bool


class Workshop:
    """The folder of one run, where its steps are done."""

    def __init__(self, folder: Path, told: Callable[[str, str], None]) -> None:
        self._folder, self._told = folder, told
        folder.mkdir(parents=True, exist_ok=True)

    def step(
        self, name: str, settings: dict[str, Any], inputs: list[Made | Path], work: Callable[[Path], dict[str, Any]]
    ) -> Made:
        """Does `work` with the step's folder unless it was done with the same settings and inputs; files and folders
        among the inputs count by what they hold. A step that was broken off is done again, or goes on, in the same folder.
        """
        parts = [each.inputs if isinstance(each, Made) else contents(each) for each in inputs]
        digest = hashlib.blake2b(
            json.dumps([name, settings, parts], sort_keys=True, default=str).encode(), digest_size=6
        ).hexdigest()
        folder = self._folder / f"{name}-{digest}"
        done = self._folder / f"{name}-{digest}.{DONE}"
        if done.is_file() and folder.exists():
            self._told(name, "unchanged")
            return Made(folder, digest, json.loads(done.read_text())["facts"], skipped=True)
        self._told(name, "begins")
        began = time.time()
        facts = work(folder)
        record = {
            "step": name, "settings": settings, "inputs": parts, "facts": facts, "began": began,
            "seconds": round(time.time() - began, 3), "environment": environment(),
        }  # fmt: skip
        text = json.dumps(record, default=str)
        with (self._folder / LOG).open("a", encoding="utf-8") as log:
            log.write(text + "\n")
        scratch = done.with_suffix(".writing")
        scratch.write_text(text)
        scratch.replace(done)
        self._told(name, f"done in {time.time() - began:.1f} s")
        return Made(folder, digest, json.loads(text)["facts"], skipped=False)


def contents(path: Path) -> str:
    """A digest of a file, or of a folder's files with their names."""
    digest = hashlib.blake2b(digest_size=16)
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    for file in files:
        digest.update(f"{file.relative_to(path) if file != path else file.name}\0".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "blake2b").digest())
    return digest.hexdigest()
