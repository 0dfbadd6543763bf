"""The mesh over Triton: 16 streams of 64 tokens through the generator, beside a bare tritonclient loop on the same server.

A real Triton server on this CPU with SmolLM2 in its vLLM contract, which takes `min_tokens`: every stream has as many tokens.
Mesh and loop take turns with the same prompts; the server's prefix cache is off. Client, generator and model share the cores.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import generate, peer, prompts
from bench.frame import Reference, Report, Row, Target
from bench.local_mesh import local_mesh
from bench.options import Options
from bench.triton_repository import VLLM
from bench.triton_server import TritonServer, triton_server


@dataclass(frozen=True)
class Workload:
    """How many streams at once, and how long each is."""

    streams: int
    tokens: int


FULL = Workload(16, 64)
QUICK = Workload(4, 8)


def run(options: Options) -> Report:
    """Mesh and loop in turn, as often as there are runs."""
    workload = QUICK if options.quick else FULL
    peer.TRITON.setup()
    with TemporaryDirectory() as folder:
        ours, bare = asyncio.run(_measure(workload, options.runs, Path(folder)))
    reference = Reference(f"tritonclient {peer.TRITON.version('tritonclient').split()[1]}, a bare loop", tuple(bare))
    name = f"{workload.streams} streams of {workload.tokens} tokens"
    row = Row(name, "tokens/s", tuple(ours), reference, Target("ratio", at_least=0.95))
    return Report("triton", (row,), vars(workload), options.quick)


async def _measure(workload: Workload, runs: int, folder: Path) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    bare: list[float] = []
    async with triton_server(folder / "server", (VLLM,)) as server:
        with local_mesh(**_settings(server)) as mesh:
            await generate.measure(mesh, [["The first stream warms the engine up."]], workload.tokens)
            for number in range(runs):
                (group,) = prompts.groups((workload.streams,), number)
                ours += await generate.measure(mesh, [group], workload.tokens)
                bare.append(await asyncio.to_thread(_bare, server, group, workload.tokens, folder / "prompts.json"))
    return ours, bare


def _settings(server: TritonServer) -> dict[str, str]:
    """The generator's, as environment variables."""
    there = {"engine": "triton", "model": VLLM, "urls": json.dumps([server.url]), "tokenizer": "smollm2-135m-instruct"}
    return {f"MURPHEY_GENERATOR_{name.upper()}": value for name, value in there.items()}


def _bare(server: TritonServer, group: list[str], tokens: int, path: Path) -> float:
    path.write_text(json.dumps(group))
    address = server.url.removeprefix("grpc://")
    return peer.TRITON.run("triton_streams", address=address, model=VLLM, prompts=path, max_tokens=tokens)[
        "tokens_per_s"
    ]
