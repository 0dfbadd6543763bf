"""The generator's engine alone, in process: tokens a second over groups of requests that are submitted at once.

`python -m bench.ceilings.engine --groups F.json`: a list of groups, each a list of StreamGenerateRequest messages in hex.
It is the engine that the generator runs, with the generator's settings, stepped in a bare loop: no text, no stream, no process.
"""

import argparse
import asyncio
import importlib
import json
import time
from contextlib import closing
from pathlib import Path

from generator import messages
from generator.engines.base import Engine, EngineRequest, NewTokens
from generator.launch import engine_launch
from generator.prepare import PreparedModel, prepare, weights_file
from generator.sampling import DEFAULT_MAX_TOKENS
from generator.settings import GeneratorSettings
from generator.tokens import PromptTokenizer
from mesh import weights
from murphey.generator.v1.generator_pb2 import StreamGenerateRequest


async def open_engine(settings: GeneratorSettings) -> tuple[Engine, PreparedModel]:
    """The engine that the generator would run with these settings, loaded here."""
    source = weights_file(weights.resolve(settings.model, settings.models))
    prepared = await prepare(source, settings.prepared)
    launch = await engine_launch(settings, source, prepared)
    module, _, function = launch.factory.partition(":")
    return getattr(importlib.import_module(module), function)(**launch.options), prepared


async def engine_requests(tokenizer: PromptTokenizer, group: list[str], first_id: int) -> list[EngineRequest]:
    """The group as the engine takes it; tokenizing is not timed."""
    found = []
    for offset, text in enumerate(group):
        message = StreamGenerateRequest.FromString(bytes.fromhex(text))
        sampling = messages.sampling(message.sampling)
        ids = await tokenizer.encode(messages.prompt(message.prompt))
        found.append(EngineRequest(first_id + offset, tuple(ids), sampling.max_tokens or DEFAULT_MAX_TOKENS, sampling))
    return found


def tokens_per_s(engine: Engine, requests: list[EngineRequest]) -> float:
    """Generated tokens a second over a group, from its submission until its last request is done."""
    started_s, tokens = time.perf_counter(), 0
    for request in requests:
        engine.add(request)
    while engine.busy:
        tokens += sum(len(news.tokens) for news in engine.step() if isinstance(news, NewTokens))
    return tokens / (time.perf_counter() - started_s)


async def measure(groups: list[list[str]]) -> list[float]:
    """Tokens a second of each group, in turn."""
    engine, prepared = await open_engine(GeneratorSettings.from_flags([]))
    with closing(PromptTokenizer(prepared)) as tokenizer:
        ready = [await engine_requests(tokenizer, group, 1 + at * 10_000) for at, group in enumerate(groups)]
    return [tokens_per_s(engine, requests) for requests in ready]


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=Path, required=True)
    groups: list[list[str]] = json.loads(parser.parse_args().groups.read_text())
    print(json.dumps({"tokens_per_s": asyncio.run(measure(groups))}))


if __name__ == "__main__":
    main()
