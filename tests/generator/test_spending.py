"""Tokens of completions, counted for the tenant that asks."""

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import REGISTRY

from mesh.access.internal import internal_key
from mesh.access.quota_settings import Quota
from mesh.admission import AdmissionLimits
from mesh.deadline import CallOptions, call_options
from mesh.errors import RateLimited, from_rpc_error
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1 import sampling_pb2
from tests.generator.conftest import open_generator
from tests.generator.fakes import CONTEXT_TOKENS, Script

LIMITS = AdmissionLimits(2, 4 * CONTEXT_TOKENS, 4 * CONTEXT_TOKENS)


def request(text: str, **sampling: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(prompt=pb.Prompt(text=text), sampling=sampling_pb2.SamplingParams(**sampling))


def calling_for(data: Path, tenant: str) -> CallOptions:
    """As a service does."""
    options = call_options(30, tenant)
    options["metadata"].append(("authorization", f"Bearer {internal_key(None, data)}"))
    return options


def spent(tenant: str, kind: str) -> float:
    return REGISTRY.get_sample_value("murphey_tenant_tokens_total", {"tenant": tenant, "kind": kind}) or 0


async def test_who_has_used_its_tokens_waits_and_nobody_else_does(tmp_path: Path) -> None:
    settings = {"auth": "keys", "quotas": {"*": Quota(tokens_per_minute=10), "rich": Quota(tokens_per_minute=0)}}
    async with open_generator(tmp_path, LIMITS, **settings) as running:
        before = spent("acme", "prompt"), spent("acme", "completion")
        answer = await running.stub.Generate(request("abcdefgh"), **calling_for(tmp_path, "acme"))
        assert answer.text == "abcdefgh"
        assert (spent("acme", "prompt"), spent("acme", "completion")) == (before[0] + 8, before[1] + 8)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await running.stub.Generate(request("a"), **calling_for(tmp_path, "acme"))
        error = from_rpc_error(refused.value, "generator")
        assert isinstance(error, RateLimited)
        assert 0 < (error.retry_after_s or 0) <= 42  # six in debt, and one to begin with, at ten a minute
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in running.stub.StreamGenerate(
                pb.StreamGenerateRequest(prompt=pb.Prompt(text="a")), **calling_for(tmp_path, "acme")
            ):
                raise AssertionError("a message came")
        for _ in range(3):
            assert (
                await running.stub.Generate(request("abcdefgh"), **calling_for(tmp_path, "rich"))
            ).text == "abcdefgh"
        assert (await running.stub.Generate(request("a"), **calling_for(tmp_path, "rival"))).text == "a"


async def test_what_was_said_before_a_caller_left_counts(tmp_path: Path) -> None:
    async with open_generator(tmp_path, LIMITS, auth="keys") as running:
        before = spent("left", "completion")
        call = running.stub.StreamGenerate(
            pb.StreamGenerateRequest(
                prompt=pb.Prompt(text="abc"), sampling=sampling_pb2.SamplingParams(seed=Script.FOREVER, max_tokens=1000)
            ),
            **calling_for(tmp_path, "left"),
        )
        deltas = 0
        async for event in call:
            deltas += event.delta.tokens
            if deltas > 5:
                break
        call.cancel()
        assert spent("left", "completion") >= before + deltas
