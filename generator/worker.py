"""The process that an engine lives in: takes requests from a socket, steps the engine, sends text back once a step.

`python -m generator.worker FD` is started by `host.py`. Steps hold the GIL, so nothing else runs here: this one thread
reads what has come, steps, turns tokens into text, and sends all requests' news in one message. It ends when the server
closes the socket or dies.
"""

import contextlib
import importlib
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import cast

from tokenizers import Tokenizer

from generator.detokenizer import Detokenizer
from generator.engines.base import Engine, EngineLaunch, EngineRequest, NewTokens, Refused
from generator.requests import FinishReason
from generator.stops import StopStrings
from generator.wire import Add, Cancel, Failed, Load, Progress, Ready, Stepped, ToWorker, WorkerSocket
from mesh import logs
from mesh.errors import MurpheyError

log = logs.get(__name__)


class _Completion:
    """The text of one running request."""

    def __init__(self, request: EngineRequest, tokenizer: Tokenizer, ending: frozenset[int]) -> None:
        self._id = request.id
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(request.sampling.stop)
        self._ending = ending | frozenset(request.sampling.stop_token_ids)
        self._tokens = 0
        self._unreported = 0
        self._cached_prompt_tokens = 0
        limit_s = request.sampling.time_limit_s
        self.deadline = None if limit_s is None else time.monotonic() + limit_s

    def advance(
        self, tokens: Sequence[int], finish: FinishReason | None, cached_prompt_tokens: int = 0
    ) -> Progress | None:
        """The news that these tokens make; None when there is nothing to tell yet."""
        self._tokens += len(tokens)
        self._unreported += len(tokens)
        self._cached_prompt_tokens = max(self._cached_prompt_tokens, cached_prompt_tokens)
        if finish is FinishReason.STOP and tokens and tokens[-1] in self._ending:
            tokens = tokens[:-1]
        text, stopped = self._stops.feed(self._detokenizer.feed(tokens))
        if finish is not None and not stopped:
            rest, stopped = self._stops.feed(self._detokenizer.flush())
            text += rest if stopped else rest + self._stops.flush()
        if stopped:
            finish = FinishReason.STOP
        if not text and finish is None:
            return None
        reported, self._unreported = self._unreported, 0
        return Progress(self._id, text, reported, finish, self._tokens, self._cached_prompt_tokens)


class Worker:
    """Steps an engine and keeps the text of its requests."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, stop_token_ids: frozenset[int]) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._stop_token_ids = stop_token_ids
        self._completions: dict[int, _Completion] = {}
        self._refused: list[Refused] = []
        self._freed: list[int] = []

    @property
    def idle(self) -> bool:
        """Whether nothing happens until a message comes."""
        return not self._engine.busy and not self._refused and not self._freed

    def handle(self, message: ToWorker) -> None:
        """Takes a request up or drops one."""
        if isinstance(message, Add):
            refused = self._engine.add(message.request)
            if refused is not None:
                self._refused.append(refused)
            else:
                self._completions[message.request.id] = _Completion(
                    message.request, self._tokenizer, self._stop_token_ids
                )
        elif isinstance(message, Cancel):
            self._drop(message.request_id)
            self._freed.append(message.request_id)

    def step(self) -> Stepped:
        """One step of the engine, as text."""
        news = self._engine.step() if self._engine.busy else []
        progress = [said for new in news if isinstance(new, NewTokens) and (said := self._advance(new))]
        progress += self._over_time()
        refused = [*self._refused, *(new for new in news if isinstance(new, Refused))]
        freed = tuple(self._freed)
        self._refused, self._freed = [], []
        for refusal in refused:
            self._completions.pop(refusal.request_id, None)
        return Stepped(progress, refused, freed)

    def _advance(self, new: NewTokens) -> Progress | None:
        completion = self._completions.get(new.request_id)
        if completion is None:  # cancelled meanwhile
            return None
        progress = completion.advance(new.tokens, new.finish, new.cached_prompt_tokens)
        if progress is not None and progress.finish is not None:
            if new.finish is None:  # a stop string: the engine does not know that it is over
                self._engine.cancel(new.request_id)
            self._completions.pop(new.request_id)
        return progress

    def _over_time(self) -> list[Progress]:
        now = time.monotonic()
        late = [id_ for id_, one in self._completions.items() if one.deadline is not None and one.deadline <= now]
        ended = [self._completions[id_].advance((), FinishReason.TIME_LIMIT) for id_ in late]
        for id_ in late:
            self._drop(id_)
        return [progress for progress in ended if progress is not None]

    def _drop(self, request_id: int) -> None:
        if self._completions.pop(request_id, None) is not None:
            self._engine.cancel(request_id)


def open_engine(launch: EngineLaunch) -> Engine:
    """Makes the engine that a launch describes; takes seconds."""
    module, _, function = launch.factory.partition(":")
    factory = cast("Callable[..., Engine]", getattr(importlib.import_module(module), function))
    return factory(**launch.options)


def serve(pipe: WorkerSocket) -> None:
    """Loads the engine that the first message names, then works until the server is gone (EOFError)."""
    load = cast("Load", pipe.receive(wait=True)[0])
    sys.path[:] = load.path
    try:
        engine = open_engine(load.launch)
        tokenizer = Tokenizer.from_file(load.launch.tokenizer)
    except Exception as error:
        log.exception("engine_not_loaded")
        pipe.send(Failed(error.message if isinstance(error, MurpheyError) else f"{type(error).__name__}: {error}"))
        return
    pipe.send(Ready(engine.info))
    worker = Worker(engine, tokenizer, load.launch.stop_token_ids)
    while True:
        for message in pipe.receive(wait=worker.idle):
            worker.handle(message)
        stepped = worker.step()
        if stepped.progress or stepped.refused or stepped.freed:
            pipe.send(stepped)


def main() -> None:
    """Ends quietly when the server does; an engine's error ends the process, and the server starts another."""
    logs.configure("generator", os.environ.get("MURPHEY_LOG_LEVEL", "info"))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe = WorkerSocket(socket.socket(fileno=int(sys.argv[1])))
        try:
            serve(pipe)
        except (EOFError, OSError):
            raise
        except Exception as error:
            log.exception("engine_broke")
            pipe.send(Failed(f"{type(error).__name__}: {error}"))
            sys.exit(1)


if __name__ == "__main__":
    main()
