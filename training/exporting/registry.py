"""Versions of trained models in the folder of models, where the generator finds them by name (`mesh/weights.py`)."""

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generator.engines.triton.repository import Layout, render
from mesh.errors import InvalidInput
from mesh.weights import FORMS, TRAINED, WHEELS, trained_versions
from training import disk
from training.exporting.gguf import Bits
from training.exporting.huggingface import DType, find_source, write_huggingface
from training.exporting.openvino import write_openvino

HUGGINGFACE, TRITON = "huggingface", "triton"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Registered:
    """A version that the generator loads as `model = "NAME@v1"`, or as `NAME` while it is the newest."""

    name: str
    version: str
    folder: Path
    forms: tuple[str, ...]


def export(
    model: Path,
    tokenizer: Path | None,
    name: str,
    models: Path,
    bits: Sequence[Bits],
    dtype: DType,
    facts: dict[str, Any],
    triton: bool = False,
) -> Registered:
    """Writes all forms, then registers them at once as the next version. Nothing that is registered is changed.

    InvalidInput for a name that cannot be; FailedPrecondition when the disk has no room.
    """
    if not _NAME.fullmatch(name) or name in WHEELS:
        raise InvalidInput(
            f"{name!r} cannot be the name of a trained model: a-z, 0-9, `.`, `_`, `-`, none that can be pulled."
        )
    source = find_source(model, tokenizer)
    folder = models / TRAINED / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = sum(path.stat().st_size for path in source.model.glob("*.safetensors"))
    disk.need(
        folder, weights * (len(bits) + 2)
    )  # a form is at most as large, and one more copy is made while converting
    with tempfile.TemporaryDirectory(dir=folder, prefix=".exporting-") as scratch:
        made = Path(scratch) / "version"
        made.mkdir()
        write_huggingface(source, made / HUGGINGFACE, dtype, name, facts)
        for each in bits:
            write_openvino(made / HUGGINGFACE, made / f"openvino-{each}", each)
        forms = (HUGGINGFACE, *(f"openvino-{each}" for each in bits))
        chosen = {"cuda": HUGGINGFACE, "cpu": forms[1] if len(forms) > 1 else HUGGINGFACE}
        (made / FORMS).write_text(json.dumps(chosen))
        version = _take_version(made, folder, triton)
    return Registered(name, version, folder / version, (*forms, TRITON) if triton else forms)


def _take_version(made: Path, folder: Path, triton: bool) -> str:
    """The next number that nobody else has taken meanwhile. A Triton repository names the checkpoint by the path that it will
    have with that number.
    """
    number = max((int(version[1:]) for version in trained_versions(folder)), default=0)
    while True:
        number += 1
        if triton:
            shutil.rmtree(made / TRITON, ignore_errors=True)
            there = (folder / f"v{number}" / HUGGINGFACE).resolve()
            render(made / HUGGINGFACE, str(there), Layout(), made / TRITON)
        try:
            made.rename(folder / f"v{number}")
            return f"v{number}"
        except OSError:
            if not (folder / f"v{number}").is_dir():
                raise
