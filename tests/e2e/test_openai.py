"""A whole mesh whose model is on another server, with a model here to fall back on."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.conftest import Completed, Mesh, start_mesh, stop_mesh
from tests.generator.openai_peer import Peer, open_peer, say

pytestmark = pytest.mark.e2e

SETTINGS = """
[generator]
engine = "openai"
model = "smol"
urls = ["{url}"]
default_model = "answers"
health_interval_s = 0.5

[generator.also.small]
model = "smollm2-135m-instruct"
context_tokens = 2048
kv_cache_gb = 0.2

[generator.fallbacks]
answers = ["smol", "small"]
"""
QUESTION = "How hot is the big kiln fired?"


async def ask(mesh: Mesh) -> Completed:
    return await asyncio.to_thread(mesh.murphey, "ask", QUESTION, "--no-cache", "--json")


async def test_answers_come_from_the_server_and_without_it_from_here(
    tmp_path: Path, handbook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_peer(reply=say("The kiln is fired ", "to 1,240 degrees [1]."), context_tokens=32_768) as peer:
        (tmp_path / "murphey.toml").write_text(SETTINGS.format(url=peer.url))
        monkeypatch.setenv("MURPHEY_CONFIG", str(tmp_path / "murphey.toml"))
        mesh = await asyncio.to_thread(start_mesh, tmp_path / "data")
        try:
            await _answers(mesh, peer, handbook)
        finally:
            await asyncio.to_thread(stop_mesh, mesh)


async def _answers(mesh: Mesh, peer: Peer, handbook: Path) -> None:
    done = await asyncio.to_thread(mesh.murphey, "ingest", str(handbook), "--json")
    assert done.code == 0, done.err
    done = await ask(mesh)
    assert done.code == 0, done.err
    answer = done.json()
    assert answer["versions"]["model"] == "models/smol@org/Smol-vllm-0.32.0"
    assert answer["answer"].startswith("The kiln is fired to 1,240 degrees")
    assert answer["citations"][0]["document"] == "kiln.md"
    assert peer.asked[-1].chat
    await peer.stop()
    done = await ask(mesh)
    assert done.code == 0, done.err
    assert done.json()["versions"]["model"].startswith("models/small@")
    assert mesh.metric("generator", "murphey_generator_fallbacks_total", 'model="smol"') >= 1
