"""A real Triton server on this CPU: the binary inside the nvidia-pytriton wheel, from an environment of its own.

`python -m bench setup-peers --triton` makes the environment (bench/peers-triton.txt). The server is started by itself, on free
ports, with a model repository of `triton_repository.py`; nothing of it is imported here.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from bench.peer import TRITON
from bench.triton_repository import write_repository
from generator.prepare import PreparedModel, prepare, weights_file
from generator.settings import GeneratorSettings
from mesh import weights
from mesh.settings import default_models_folder

_START_S, _STOP_S = 300, 60
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - Linux's
_MODEL = "smollm2-135m-instruct"


async def smollm2() -> tuple[Path, PreparedModel]:
    """The weights of the model in the servers, and what the generator keeps of it."""
    models = default_models_folder()
    source = weights_file(weights.resolve(_MODEL, models))
    return Path(source), await prepare(source, GeneratorSettings(models=models).prepared)


@dataclass
class TritonServer:
    """A running server. `log` holds what the models have told of their inside, a file each."""

    folder: Path
    grpc_port: int
    http_port: int
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """For the generator."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def _shared_memory(self) -> str:
        """Begins the names of its regions; a server that runs has its ports for itself."""
        return f"murphey_triton_{self.grpc_port}_"

    @property
    def said(self) -> str:
        """The end of the server's own log."""
        return (self.folder / "server.log").read_text(errors="replace")[-6000:]

    async def start(self) -> None:
        """Starts it, on the same ports each time, and waits until its models are ready."""
        site = TRITON.site_packages
        home = site / "pytriton" / "tritonserver"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MURPHEY_"))}
        libraries = os.pathsep.join([str(site / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))])
        with (self.folder / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                str(home / "bin" / "tritonserver"), "--model-repository", str(self.folder / "models"),
                "--backend-directory", str(self.folder / "backends"), "--disable-auto-complete-config",
                "--backend-config", f"python,shm-region-prefix-name={self._shared_memory}", "--grpc-address", "127.0.0.1",
                "--grpc-port", str(self.grpc_port), "--http-address", "127.0.0.1",
                "--http-port", str(self.http_port), "--allow-metrics", "false", "--exit-timeout-secs", "5",
                env=kept | {"LD_LIBRARY_PATH": libraries, "OPENBLAS_NUM_THREADS": "1"},
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, process_group=0,
            )  # fmt: skip
        await self._ready()

    async def kill(self) -> None:
        """Kills it and its models' processes, which are its group, and removes the shared memory that they leave."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, 9)
            await self.process.wait()
        self._remove_shared_memory()

    def _remove_shared_memory(self) -> None:
        for left in _SHARED_MEMORY.glob(f"{self._shared_memory}*"):
            left.unlink(missing_ok=True)

    def events(self, model: str) -> list[dict[str, Any]]:
        """What a model has told of its inside so far."""
        path = self.folder / "log" / f"{model}.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    async def _ready(self) -> None:
        async with asyncio.timeout(_START_S), httpx2.AsyncClient(trust_env=False) as client:
            while True:
                assert self.process is not None
                assert self.process.returncode is None, self.said
                with contextlib.suppress(httpx2.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{self.http_port}/v2/health/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.1)


@asynccontextmanager
async def triton_server(folder: Path, models: tuple[str, ...]) -> AsyncIterator[TritonServer]:
    """A server with these models; `folder` is its own."""
    assert TRITON.installed, "Triton is not installed: run `.venv/bin/python -m bench setup-peers --triton`."
    weights_path, prepared = await smollm2()
    (folder / "log").mkdir(parents=True)
    _write_backend(folder / "backends" / "python")
    parameters = {
        "gguf": str(weights_path), "tokenizer": str(prepared.tokenizer), "log": str(folder / "log"),
        "ends": json.dumps(prepared.card.stop_token_ids),
    }  # fmt: skip
    write_repository(folder / "models", models, parameters, TRITON.site_packages)
    server = TritonServer(folder, _free_port(), _free_port())
    try:
        await server.start()
        yield server
    finally:
        await server.kill()


def _write_backend(folder: Path) -> None:
    """The Python backend with the stub of the environment's Python."""
    home = TRITON.site_packages / "pytriton" / "tritonserver"
    shutil.copytree(home / "backends" / "python", folder)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    assert stub.exists(), f"nvidia-pytriton has no stub for Python {version}"
    shutil.copy(stub, folder / "triton_python_backend_stub")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
