"""Preparing training text: how many planted near duplicates are found, how many others are lost, speed of each step, memory.

The texts are Wikipedia's and Reddit's. They are prepared once, so that no duplicates are left that nobody planted; then copies
with small changes are planted among them and everything is prepared again. A group is an original and its copy: one text of it
should be left.
"""

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import corpora
from bench.frame import Report, Row, Target
from bench.options import Options
from training import records
from training.records import SUFFIX, Record, ShardWriter

PLANTED, QUICK_PLANTED = 2_000, 50
CHANGED_SHARE = 0.02
"""Of the words of a copy; 5-word runs of a text of which 2 % of the words differ overlap by some 82 %."""
MIN_WORDS = 80
_FILES = 4
_COPY = "#copy"


def run(options: Options, planted: int = PLANTED) -> Report:
    """One run: which texts are dropped does not vary, and speeds are of the processor's time."""
    planted = QUICK_PLANTED if options.quick else planted
    with TemporaryDirectory() as folder:
        place = Path(folder)
        _collect(place, 4 * planted)
        originals = _prepared(place, [place / "wiki", place / "reddit"], place / "first")[1]
        count = _plant(originals, place / "corpus", planted)
        manifest, left, peak_bytes = _measured(place)
    survivors = Counter(record.id.removesuffix(_COPY) for record in left)
    found = sum(survivors[name] == 1 for name in count) / max(1, len(count))
    lost = sum(not survivors[record.id] for record in originals) / max(1, len(originals))
    rows = [
        Row("planted near duplicates found", "%", (100 * found,), target=Target("value", at_least=95.0)),
        Row("texts lost that have no other like them", "%", (100 * lost,), target=Target("value", at_most=1.0)),
        Row("most memory", "MB", (peak_bytes / 1e6,), target=Target("value", at_most=2_000.0)),
        *_speeds(manifest),
    ]
    workload = {
        "texts": len(originals), "planted": len(count), "changed_share": CHANGED_SHARE,
        "megabytes": round(sum(len(record.text.encode()) for record in originals) / 1e6, 1),
    }  # fmt: skip
    return Report("preparing", tuple(rows), workload, options.quick)


def changed(text: str, chosen: random.Random) -> str:
    """A copy as they stand in crawls: a few words are others, letters' case and a line at the end too."""
    words = re.split(r"(\s+)", text)
    places = [place for place in range(0, len(words), 2) if words[place]]
    for place in chosen.sample(places, max(1, int(len(places) * CHANGED_SHARE))):
        words[place] = words[chosen.choice(places)]
    return f"{''.join(words).capitalize()}\n\nPosted on page {chosen.randint(1, 999)}."


def _collect(place: Path, limit: int) -> None:
    texts, some = corpora.data_folder() / "text", ("--limit", limit)
    _murphey("collect", "wikipedia", texts / "wikipedia-xml-sample/enwiki-sample.xml", "--out", place / "wiki", *some)
    _murphey("collect", "reddit", texts / "reddit-sample/reddit.jsonl.zst", "--out", place / "reddit", *some)


def _prepared(place: Path, folders: Iterable[Path], out: Path) -> tuple[dict[str, Any], list[Record]]:
    manifest = json.loads(_murphey("prepare", *folders, "--out", out, "--json"))
    return manifest, [record for path in records.shards(out) for record in records.read(path)]


def _plant(originals: list[Record], folder: Path, planted: int) -> list[str]:
    """Writes originals and copies, mixed, into files; returns the ids of the originals that have copies."""
    chosen = random.Random(0)
    long = [record for record in originals if len(record.text.split()) >= MIN_WORDS]
    sources = chosen.sample(long, min(planted, len(long)))
    copies = [replace(record, id=record.id + _COPY, text=changed(record.text, chosen)) for record in sources]
    texts = [*originals, *copies]
    chosen.shuffle(texts)
    for number in range(_FILES):
        writer = ShardWriter(folder / f"{number:05d}{SUFFIX}")
        for record in texts[number::_FILES]:
            writer.write(record)
        writer.finish()
    return [record.id for record in sources]


def _measured(place: Path) -> tuple[dict[str, Any], list[Record], int]:
    """Without the rules on quality, so that only duplicates go; the first preparing has told the speed of the rules."""
    out = place / "second"
    _, before = _murphey_with_memory("prepare", place / "corpus", "--out", place / "timed", "--json")
    printed, peak = _murphey_with_memory("prepare", place / "corpus", "--out", out, "--no-quality", "--json")
    timed = json.loads((place / "timed" / "prepared.json").read_text())
    assert json.loads(printed)["documents"] > 0
    return timed, [record for path in records.shards(out) for record in records.read(path)], max(before, peak)


def _speeds(manifest: dict[str, Any]) -> list[Row]:
    return [
        Row(f"{step['step']}, of one core", "MB/s", (step["mb_a_second"],), target=Target("value", at_least=1.0))
        for step in manifest["steps"]
        if step["mb_a_second"] is not None
    ]


def _murphey(*arguments: object) -> str:
    return _murphey_with_memory(*arguments)[0]


def _murphey_with_memory(*arguments: object) -> tuple[str, int]:
    """What `murphey train …` prints, and the most memory that its process held."""
    command = [sys.executable, "-c", "from mesh.cli import main; main()", "train", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"murphey train {arguments[0]} failed: {process.returncode}")
    return printed, used.ru_maxrss * 1024
