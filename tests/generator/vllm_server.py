"""A real vLLM on the CPU, from the environment that `python -m bench setup-peers --vllm` makes, serving the real SmolLM2."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from bench.peer import VLLM
from generator.prepare import PreparedModel, prepare, weights_file
from generator.settings import GeneratorSettings
from mesh import weights
from mesh.settings import default_models_folder

NAME, KEY, CONTEXT_TOKENS = "smollm2", "sesame", 2048
_START_S = 900
_MAKE_MODEL = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, GgufConfig, PreTrainedTokenizerFast
gguf, tokenizer, bos, eos, template, folder = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(
    str(Path(gguf).parent), gguf_file=Path(gguf).name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
)
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.save_pretrained(folder)
made = PreTrainedTokenizerFast(tokenizer_file=tokenizer, bos_token=bos, eos_token=eos)
made.chat_template = template
made.save_pretrained(folder)
"""


async def prepared_smollm2() -> PreparedModel:
    """What the generator keeps of the model."""
    models = default_models_folder()
    source = weights_file(weights.resolve("smollm2-135m-instruct", models))
    return await prepare(source, GeneratorSettings(models=models).prepared)


async def make_checkpoint(folder: Path) -> None:
    """The default model's GGUF as safetensors, which is what vLLM reads."""
    prepared = await prepared_smollm2()
    gguf = weights_file(weights.resolve("smollm2-135m-instruct", default_models_folder()))
    card = prepared.card
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _MAKE_MODEL, str(gguf), str(prepared.tokenizer), card.bos_token, card.eos_token,
        card.chat_template, str(folder),
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert await process.wait() == 0


class VllmServer:
    """A running server."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, log: Path) -> None:
        self.process, self.root, self.log = process, f"http://127.0.0.1:{port}", log

    async def ready(self) -> None:
        """Waits until it serves; fails with what it said when it ends first."""
        async with asyncio.timeout(_START_S), httpx2.AsyncClient(trust_env=False) as client:
            while True:
                assert self.process.returncode is None, self.log.read_text()[-4000:]
                with contextlib.suppress(httpx2.HTTPError):
                    if (await client.get(f"{self.root}/health")).status_code == 200:
                        return
                await asyncio.sleep(0.2)

    async def running(self) -> float:
        """Requests in its engine, by its own metrics."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"{self.root}/metrics")).text
        lines = [line for line in page.splitlines() if line.startswith("vllm:num_requests_running")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def stop(self) -> None:
        """Kills it and its engine's processes, which are its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        await self.process.wait()


@asynccontextmanager
async def vllm_server(folder: Path) -> AsyncIterator[VllmServer]:
    """Starts one on a free port, with a key."""
    assert VLLM.installed, "vLLM is not installed: run `make testvllm`, which installs it (x86-64 Linux, about 6 GB)."
    checkpoint = folder / "model"
    await make_checkpoint(checkpoint)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MURPHEY_"))}
    log = folder / "vllm.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            str(VLLM.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint),
            "--served-model-name", NAME, "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY,
            "--max-model-len", str(CONTEXT_TOKENS), "--dtype", "bfloat16", "--enforce-eager",
            env=kept | {"HF_HUB_OFFLINE": "1"} | dict(VLLM.variables),
            stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file, process_group=0,
        )  # fmt: skip
    server = VllmServer(process, port, log)
    try:
        await server.ready()
        yield server
    finally:
        await server.stop()
