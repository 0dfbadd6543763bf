"""From a folder of collected records to a folder of prepared ones, with a report. Broken off, the same call goes on."""

import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from datatrove.pipeline.base import PipelineStep

from mesh.errors import Corrupt, FailedPrecondition, InvalidInput
from training import disk, records
from training.prepare import contamination, executors, figures, report, samples
from training.prepare.settings import Machines, Rules
from training.prepare.stages import Stage, Workplace, list_stages

MANIFEST = "prepared.json"
MAX_FILE_BYTES = 512 * 1024 * 1024
"""Of one file of the corpus, packed: a task holds signatures of a whole file in memory, and 512 MB of text are many."""
_WORK = ".work"
_NEEDED_RATIO = 3
_TEXT_RATIO = 3
"""Bytes of text to a byte of a file, to show how far a stage is."""
_LOOK_S = 0.5

Watch = Callable[[str, int, int], None]
"""Told the stage, how many bytes of text are read, and about how many there are."""


@dataclass(frozen=True)
class Order:
    """What is wanted."""

    corpora: tuple[Path, ...]
    out: Path
    rules: Rules
    machines: Machines = field(default_factory=Machines)


def check(order: Order) -> list[Path]:
    """Looks at corpus, evaluation sets, folder and disk before long work; returns the corpus' files. Errors of mesh.errors."""
    order.machines.check()
    shards = [path for corpus in order.corpora for path in records.shards(corpus)]
    records.check(shards)
    for path in shards:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{path} has more than {MAX_FILE_BYTES} bytes; split it into files of about 64 MB.")
    contamination.check(order.rules.evaluation_sets)
    _check_folder(order, shards)
    disk.need(order.out, _NEEDED_RATIO * sum(path.stat().st_size for path in shards))
    return shards


def prepare(order: Order, watch: Watch = lambda stage, done, total: None) -> dict[str, Any] | None:
    """Runs what is not done; returns the manifest, or None where a cluster has taken it over."""
    shards = check(order)
    manifest = load(order.out)
    if manifest is not None:
        return manifest
    place = Workplace(order.out / _WORK)
    _begin(order, shards, place)
    stages = list_stages(shards, order.rules, place)
    here = order.machines.executor == "local"
    finish = Finish(order.out, [stage.name for stage in stages], keep_logs=not here)
    if not here:
        executors.submit(stages, finish, place, order.machines)
        return load(order.out)
    for stage in stages:
        with _watched(stage, place, watch), disk.full_is_told(order.out):
            executors.run_here(stage, place, order.machines.workers)
    list(finish.run())
    return load(order.out)


def load(folder: Path) -> dict[str, Any] | None:
    """The manifest of a prepared folder; None where it is not finished. Corrupt when it cannot be read."""
    path = folder / MANIFEST
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError as error:
        raise Corrupt(f"{path} is damaged; prepare into another folder.") from error


class Finish(PipelineStep):
    """Puts the result in its place and writes report and manifest: the last stage, wherever it runs."""

    type, name = "WRITE", "finish"

    def __init__(self, out: Path, stages: list[str], *, keep_logs: bool) -> None:
        super().__init__()
        self.out, self.stages, self.keep_logs = out, stages, keep_logs

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:  # pyright: ignore
        place = Workplace(self.out / _WORK)
        order = orjson.loads((place.folder / "order.json").read_bytes())
        steps = figures.read(place.folder / "logs", self.stages)
        for path in sorted(place.result.glob(f"*{records.SUFFIX}")):
            path.replace(self.out / path.name)
        files = sorted(self.out.glob(f"*{records.SUFFIX}"))
        manifest = {
            **order,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "documents": steps[-1].documents_out if steps else 0,
            "bytes": steps[-1].bytes_out if steps else 0,
            "documents_read": steps[0].documents_out + steps[0].dropped.total() if steps else 0,
            "files": [path.name for path in files],
            "fingerprint": _fingerprint(files),
            "steps": [step.as_json() for step in steps],
        }
        report.write(manifest, samples.read(place.samples), self.out)
        disk.write_whole(self.out / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
        kept = {"logs"} if self.keep_logs else set[str]()  # a cluster's jobs write there when their step is done
        for path in [each for each in place.folder.iterdir() if each.name not in kept]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not kept:
            place.folder.rmdir()
        yield from ()


def _begin(order: Order, shards: Sequence[Path], place: Workplace) -> None:
    """Makes the workplace, once."""
    if (place.folder / "order.json").exists():
        return
    place.folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"murphey": version("murphey"), **_identity(order, shards)}
    if order.rules.evaluation_sets:
        index = contamination.build(order.rules.evaluation_sets, place.index)
        told["evaluation"] = {"texts": index.texts, "too_short": index.short, "runs": index.runs}
    disk.write_whole(place.folder / "order.json", orjson.dumps(told))


def _check_folder(order: Order, shards: Sequence[Path]) -> None:
    """FailedPrecondition when the folder holds anything but the same order, begun or done."""
    if not order.out.exists() or not any(order.out.iterdir()):
        return
    if [path.name for path in order.out.iterdir()] == [_WORK] and not (order.out / _WORK / "order.json").exists():
        return
    for path in (order.out / MANIFEST, order.out / _WORK / "order.json"):
        if path.is_file():
            held, wanted = orjson.loads(path.read_bytes()), orjson.loads(orjson.dumps(_identity(order, shards)))
            if {key: held.get(key) for key in wanted} != wanted:
                raise FailedPrecondition(f"{order.out} was prepared from other text or otherwise; name a new folder.")
            return
    raise FailedPrecondition(f"{order.out} is not empty and was not prepared into; name a new folder.")


def _identity(order: Order, shards: Sequence[Path]) -> dict[str, Any]:
    return {
        "corpus": [{"file": str(path.absolute()), "size_bytes": path.stat().st_size} for path in shards],
        "rules": order.rules.as_json(),
    }


def _fingerprint(files: Sequence[Path]) -> str:
    """Of the content of all files: 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]


@contextmanager
def _watched(stage: Stage, place: Workplace, watch: Watch) -> Iterator[None]:
    """Tells how far a stage is, from another thread, until it ends."""
    ended = threading.Event()
    total = _TEXT_RATIO * sum(path.stat().st_size for path in stage.reads if path.exists())

    def look() -> None:
        while True:
            done = sum(_number(path) for path in place.told(stage.name).glob("*"))
            watch(stage.name, done, max(total, done))
            if ended.wait(_LOOK_S):
                return

    looking = threading.Thread(target=look, name="progress", daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()


def _number(path: Path) -> int:
    try:
        return int(path.read_text() or 0)
    except (ValueError, OSError):
        return 0  # it is being written
