"""Peers: other people's software in an environment of its own.

`.venv-bench` is made from bench/peers.txt (every version pinned) by `python -m bench setup-peers`. Nothing of it is ever
imported here, and its dependencies are its own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.children import ChildFailed, run_json

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv-bench"
REQUIREMENTS = Path(__file__).parent / "peers.txt"
SCRIPTS = Path(__file__).parent / "peers"
_MADE_FROM = "made-from.txt"


def setup() -> Path:
    """Makes the peers' environment, unless it was made from the same bench/peers.txt; returns it."""
    wanted, made_from = REQUIREMENTS.read_text(), ENVIRONMENT / _MADE_FROM
    if made_from.exists() and made_from.read_text() == wanted:
        return ENVIRONMENT
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
    install = [str(_python()), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(REQUIREMENTS)]
    subprocess.run(install, check=True, stdout=sys.stderr)
    made_from.write_text(wanted)
    return ENVIRONMENT


def run(script: str, **options: object) -> dict[str, Any]:
    """Runs `peers/{script}.py` and returns its result. ChildFailed when the peers are not installed."""
    if not _python().exists():
        raise ChildFailed("The peers are not installed. Run `python -m bench setup-peers`.")
    return run_json([str(_python()), str(SCRIPTS / f"{script}.py")], options, _environment())


def version(package: str) -> str:
    """`llama-index-core 0.14.25`, as pinned."""
    pins = dict(line.split("==") for line in REQUIREMENTS.read_text().splitlines() if "==" in line)
    return f"{package} {pins[package]}"


def _python() -> Path:
    return ENVIRONMENT / "bin" / "python"


def _environment() -> dict[str, str]:
    """OPENBLAS_NUM_THREADS=1 is the peers' fair setting: left alone, OpenBLAS and torch fight over the cores and they get
    slower. Everything else is as their users have it.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MURPHEY_"))}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
