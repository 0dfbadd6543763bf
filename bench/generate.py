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
    """Mesh and peer in turn, as often as there are runs; the mesh is idle while the peer runs."""
    workload = QUICK if options.quick else FULL
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    with local_mesh() as mesh:
        asyncio.run(measure(mesh, [["The first stream warms the engine up."]], workload.tokens))
        for number in range(options.runs):
            groups = prompts.groups(workload.streams, number)
            ours.append(asyncio.run(measure(mesh, groups, workload.tokens)))
            theirs.append(_peer(groups, workload.tokens))
    name = f"{peer.version('transformers')}, continuous batching, bf16"
    rows = tuple(
        Row(
            f"{count} streams of {workload.tokens} tokens", "tokens/s", tuple(run[index] for run in ours),
            Reference(name, tuple(run[index] for run in theirs)), Target("ratio", at_least=2.8),
        )
        for index, count in enumerate(workload.streams)
    )  # fmt: skip
    return Report("generate", rows, vars(workload), options.quick)


async def measure(mesh: LocalMesh, groups: list[list[str]], tokens: int) -> list[float]:
    """Tokens a second of each group of streams, through the generator."""
    async with mesh.channel("generator") as channel:
        stub = GeneratorServiceStub(channel)
        return [await streams.tokens_per_s(stub, [prompts.request(text, tokens) for text in group]) for group in groups]


def _peer(groups: list[list[str]], tokens: int) -> list[float]:
    gguf = next((models_folder() / "smollm2-135m-instruct").glob("*.gguf"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.json"
        path.write_text(json.dumps(groups))
        return peer.run("transformers_batching", gguf=gguf, prompts=path, max_tokens=tokens)["tokens_per_s"]
