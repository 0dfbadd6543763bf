"""An engine in a process of its own: it dies, comes back, and ends with its server."""

import asyncio
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client import REGISTRY

from generator.engines.base import EngineRequest
from generator.host import EngineHost, EngineState, backoff_s
from generator.requests import FinishReason, Guidance, Sampling
from generator.wire import Cancel, Progress, WorkerSocket, pack
from mesh.errors import InvalidInput, Unavailable
from tests.generator.fakes import Script, byte_tokenizer, launch, prepared_model

HELLO = tuple(byte_tokenizer().encode("hello wörld").ids)
FOREVER = Sampling(seed=Script.FOREVER)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[EngineHost]:
    async with EngineHost(launch(prepared_model(tmp_path))) as running:
        yield running


def _request(sampling: Sampling | None = None, max_tokens: int = 10**6) -> EngineRequest:
    sampling = sampling or Sampling()
    return EngineRequest(0, HELLO, max_tokens, sampling)


async def _all(host: EngineHost, request: EngineRequest) -> tuple[str, Progress]:
    progress = [each async for each in host.run(request)]
    return "".join(each.text for each in progress), progress[-1]


async def _running(host: EngineHost) -> int:
    """Requests in the engine, as it says itself."""
    text, _ = await _all(host, _request(Sampling(seed=Script.COUNT_RUNNING)))
    return int(text)


async def test_text_and_counts_arrive_whole(host: EngineHost) -> None:
    text, last = await _all(host, _request())
    assert (text, last.finish, last.completion_tokens) == ("hello wörld", FinishReason.STOP, len(HELLO))


async def test_a_stop_string_ends_the_request_in_the_engine_too(host: EngineHost) -> None:
    text, last = await _all(host, _request(Sampling(seed=Script.FOREVER, stop=("wör",))))
    assert (text, last.finish) == ("hello ", FinishReason.STOP)
    assert await _running(host) == 0


async def test_a_time_limit_ends_the_request(host: EngineHost) -> None:
    _, last = await _all(host, _request(Sampling(seed=Script.FOREVER, time_limit_s=0.05)))
    assert last.finish is FinishReason.TIME_LIMIT
    assert await _running(host) == 0


@pytest.mark.parametrize("ending", [{"stop": ("wör",)}, {"time_limit_s": 0.05}, {"max_tokens": 5}])
async def test_cached_tokens_are_told_however_the_request_ends(host: EngineHost, ending: dict[str, Any]) -> None:
    sampling = Sampling(seed=Script.CACHED, **ending)
    _, last = await _all(host, _request(sampling, ending.get("max_tokens", 10**6)))
    assert last.cached_prompt_tokens == 3


async def test_leaving_frees_the_slot_by_the_next_request(host: EngineHost) -> None:
    async with aclosing(host.run(_request(FOREVER))) as progress:
        await anext(progress)
        assert await _running(host) == 1
    assert await _running(host) == 0


async def test_the_time_until_the_slot_is_free_is_measured(host: EngineHost) -> None:
    def measured() -> float:
        return REGISTRY.get_sample_value("murphey_generator_cancel_seconds_count") or 0.0

    before = measured()
    async with aclosing(host.run(_request(FOREVER))) as progress:
        await anext(progress)
    await _all(host, _request())
    assert measured() == before + 1


async def test_a_refused_request_harms_no_other(host: EngineHost) -> None:
    async with aclosing(host.run(_request(FOREVER))) as other:
        await anext(other)
        with pytest.raises(InvalidInput) as caught:
            await _all(host, _request(Sampling(guidance=Guidance("regex", "["))))
        assert caught.value.field == "sampling.guidance"
        await anext(other)


@pytest.mark.parametrize("how", ["killed", "exit", "exception"])
async def test_a_dead_engine_ends_its_requests_and_comes_back(host: EngineHost, how: str) -> None:
    async with aclosing(host.run(_request(FOREVER))) as progress:
        await anext(progress)
        assert host.pid is not None
        before = host.pid
        if how == "killed":
            os.kill(before, signal.SIGKILL)
        else:
            script = Script.DIE if how == "exit" else Script.BREAK
            with pytest.raises(Unavailable):
                await _all(host, _request(Sampling(seed=script)))
        with pytest.raises(Unavailable, match="stopped while it answered"):
            async for _ in progress:
                pass
    await host.settled()
    assert host.pid != before
    assert (await _all(host, _request()))[0] == "hello wörld"


async def test_while_the_engine_loads_again_requests_are_refused_at_once(host: EngineHost) -> None:
    assert host.pid is not None
    with pytest.raises(Unavailable):
        await _all(host, _request(Sampling(seed=Script.DIE)))
    assert host.state is EngineState.LOADING
    with pytest.raises(Unavailable, match="loading") as caught:
        await _all(host, _request())
    assert caught.value.retry_after_s


async def test_a_model_that_does_not_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no such weights"):
        async with EngineHost(launch(prepared_model(tmp_path), load_error="no such weights")):
            pass


async def test_a_process_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-such-python"))
    with pytest.raises(Unavailable, match=r"cannot be started: .*no-such-python"):
        async with EngineHost(launch(prepared_model(tmp_path))):
            pass


def test_an_engine_that_is_down_for_days_is_started_again() -> None:
    assert [backoff_s(failures) for failures in (1, 2, 3, 9, 10**6)] == [0.2, 0.4, 0.8, 30, 30]


def test_a_worker_reads_from_any_descriptor() -> None:
    """A server with more than a thousand callers has such ones left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2048, hard)), hard))
    ours, theirs = socket.socketpair()
    try:
        with ours, theirs, socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD, 1_500)) as end:
            pipe = WorkerSocket(end)
            assert pipe.receive(wait=False) == []
            ours.sendall(pack(Cancel(7)))
            assert pipe.receive(wait=False) == [Cancel(7)]
            ours.sendall(pack(Cancel(8)))
            assert pipe.receive(wait=True) == [Cancel(8)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_an_engine_that_does_not_come_back_is_shown_as_failed(tmp_path: Path) -> None:
    async with EngineHost(launch(prepared_model(tmp_path), load_error="later: disk gone")) as host:
        with pytest.raises(Unavailable):
            await _all(host, _request(Sampling(seed=Script.DIE)))
        with pytest.raises(Unavailable, match="disk gone"):
            await host.settled()
        assert host.state is EngineState.FAILED


@pytest.mark.slow
async def test_the_loop_is_not_held_up_by_a_slow_step(tmp_path: Path) -> None:
    async with EngineHost(launch(prepared_model(tmp_path), step_s=1.0)) as host:
        async with aclosing(host.run(_request(FOREVER))) as progress:
            await anext(progress)
            step, turns = asyncio.ensure_future(anext(progress)), 0
            while not step.done():
                await asyncio.sleep(0.001)
                turns += 1
        assert turns > 10  # on an idle machine several hundred; a loop that waits for the step has one


@pytest.mark.slow
def test_the_engine_ends_when_its_server_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.generator.host_alone", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        engine = psutil.Process(int(server.stdout.readline()))
        server.kill()
    engine.wait(timeout=60)
