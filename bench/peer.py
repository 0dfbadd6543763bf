"""Peers: other people's software in environments of their own.

`.venv-bench` is made from bench/peers.txt (every version pinned) by `python -m bench setup-peers`; `.venv-bench-vllm`, by
`setup-peers --vllm`, holds vLLM for CPUs, which not every machine can install; `.venv-bench-triton`, by `setup-peers --triton`,
holds a Triton server. Nothing of them is ever imported here, and
their dependencies are their own.
"""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.children import ChildFailed, run_json

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(__file__).parent / "peers"
_MADE_FROM = "made-from.txt"


@dataclass(frozen=True)
class Environment:
    """A virtual environment and the file that pins what is in it; `variables` are set for what runs there."""

    folder: Path
    requirements: Path
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages lie."""
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    @property
    def installed(self) -> bool:
        """Whether it was made from what is pinned now."""
        made_from = self.folder / _MADE_FROM
        return made_from.exists() and made_from.read_text() == self.requirements.read_text()

    def setup(self) -> None:
        """Makes it, unless it is there. ChildFailed when a package cannot be had."""
        if self.installed:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(self.folder)], check=True)
        install = [str(self.python), "-m", "pip", "install", "--quiet", "--no-deps"]
        try:
            subprocess.run([*install, "--requirement", str(self.requirements)], check=True, stdout=sys.stderr)
        except subprocess.CalledProcessError as error:
            raise ChildFailed(
                f"{self.requirements.name} could not be installed; pip's message is above. Where it finds no distribution, the "
                f"index has none for Python {platform.python_version()} on {platform.system()} {platform.machine()}."
            ) from error
        (self.folder / _MADE_FROM).write_text(self.requirements.read_text())

    def run(self, script: str, **options: object) -> dict[str, Any]:
        """Runs `peers/{script}.py` and returns its result. ChildFailed when it is not installed, or fails."""
        if not self.installed:
            raise ChildFailed(
                f"{self.folder.name} is not made from {self.requirements.name}. Run `python -m bench setup-peers`."
            )
        return run_json([str(self.python), str(SCRIPTS / f"{script}.py")], options, self._environment())

    def version(self, package: str) -> str:
        """`llama-index-core 0.14.25`, as pinned."""
        pins = dict(line.split("==") for line in self.requirements.read_text().splitlines() if "==" in line)
        return f"{package} {pins[package]}"

    def _environment(self) -> dict[str, str]:
        """OPENBLAS_NUM_THREADS=1 is the peers' fair setting: left alone, OpenBLAS and torch fight over the cores and they
        get slower. Everything else is as their users have it.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MURPHEY_"))}
        fair = {"OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        return kept | fair | dict(self.variables)


PEERS = Environment(ROOT / ".venv-bench", Path(__file__).parent / "peers.txt")
VLLM = Environment(
    ROOT / ".venv-bench-vllm",
    Path(__file__).parent / "peers-vllm.txt",
    (
        ("VLLM_CPU_NUM_OF_RESERVED_CPU", "0"),  # all cores, as the others have; by itself it keeps one free
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("VLLM_LOGGING_STREAM", "ext://sys.stderr"),  # by itself it logs where the result goes
    ),
)
TRITON = Environment(ROOT / ".venv-bench-triton", Path(__file__).parent / "peers-triton.txt")
