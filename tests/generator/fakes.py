"""A scripted engine that runs in a real worker process, and the tiny byte-level model that it stands for.

It says the prompt's tokens back, one a step. The seed asks for something else: see `Script`.
"""

import itertools
import os
import time
from enum import IntEnum
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from generator.engines.base import EngineInfo, EngineLaunch, EngineRequest, NewTokens, Refused
from generator.prepare import ModelCard, PreparedModel
from generator.requests import FinishReason

CONTEXT_TOKENS = 4096
END_OF_TURN = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.content == 'refuse me' %}{{ raise_exception('not this one') }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FIELDS = frozenset({"max_tokens", "seed", "stop", "stop_token_ids", "guidance", "time_limit", "temperature"})


class Script(IntEnum):
    """Seeds that make the engine do something other than saying the prompt back once."""

    FOREVER = 1000
    COUNT_RUNNING = 1001
    DIE = 1002
    BREAK = 1003
    CACHED = 1004
    """Goes on forever, three tokens of the prompt from the cache."""


def byte_tokenizer() -> Tokenizer:
    """A token a byte, and special tokens for turns."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({symbol: index for index, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = (END_OF_TURN, "<|system|>", "<|user|>", "<|assistant|>")
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    return tokenizer


def prepared_model(folder: Path) -> PreparedModel:
    """The tiny model as `prepare` would leave it."""
    tokenizer = byte_tokenizer()
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    stop = tokenizer.token_to_id(END_OF_TURN)
    assert stop is not None
    card = ModelCard(CONTEXT_TOKENS, tokenizer.get_vocab_size(), 1, 1, 1, "", END_OF_TURN, (stop,), TEMPLATE, "")
    return PreparedModel(card, path)


def launch(model: PreparedModel, *, step_s: float = 0.001, load_error: str = "") -> EngineLaunch:
    """Makes a ScriptedEngine in a worker."""
    options = {"step_s": step_s, "load_error": load_error, "marker": str(model.tokenizer.parent / "loaded")}
    return EngineLaunch("tests.generator.fakes:open_scripted", options, str(model.tokenizer), frozenset({256}))


def open_scripted(step_s: float, load_error: str, marker: str) -> "ScriptedEngine":
    """`load_error` fails every load; `once` in it only loads after the first."""
    first = not Path(marker).exists()
    Path(marker).touch()
    if load_error and not (first and load_error.startswith("later:")):
        raise ValueError(load_error)
    return ScriptedEngine(step_s)


class ScriptedEngine:
    """See the module."""

    info = EngineInfo("scripted", "1", CONTEXT_TOKENS, 4 * CONTEXT_TOKENS, FIELDS)

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._running: dict[int, tuple[EngineRequest, itertools.cycle[int], int]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def add(self, request: EngineRequest) -> Refused | None:
        if request.sampling.guidance is not None:
            return Refused(request.id, "the scripted engine follows no form", "sampling.guidance")
        if request.sampling.seed == Script.DIE:
            os._exit(9)
        tokens = request.prompt
        if request.sampling.seed == Script.COUNT_RUNNING:
            tokens = tuple(byte_tokenizer().encode(str(len(self._running))).ids)
        limit = 10**9 if request.sampling.seed in (Script.FOREVER, Script.CACHED) else len(tokens)
        self._running[request.id] = (request, itertools.cycle(tokens), limit)
        return None

    def cancel(self, request_id: int) -> None:
        self._running.pop(request_id, None)

    def step(self) -> list[NewTokens | Refused]:
        time.sleep(self._step_s)
        news: list[NewTokens | Refused] = []
        for request_id, (request, tokens, left) in list(self._running.items()):
            if request.sampling.seed == Script.BREAK:
                raise RuntimeError("the scripted engine breaks")
            spent = request.sampling.max_tokens is not None and request.max_tokens <= 1
            finish = FinishReason.STOP if left == 1 else FinishReason.LENGTH if spent else None
            cached = 3 if request.sampling.seed == Script.CACHED else 0
            news.append(NewTokens(request_id, [next(tokens)], finish, cached))
            if finish is not None:
                del self._running[request_id]
            else:
                shorter = EngineRequest(request.id, request.prompt, request.max_tokens - 1, request.sampling)
                self._running[request_id] = (shorter, tokens, left - 1)
        return news
