"""A function over many things by several processes, in order, with a bound on what waits."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

Given = TypeVar("Given")
Result = TypeVar("Result")

BATCH = 16
"""Things that go to a process at once."""


def ordered_map(work: Callable[[Given], Result], things: Iterable[Given], workers: int) -> Iterator[Result]:
    """`work` of each thing, in their order. With one worker in this process; with more, at most three batches a worker wait, so
    that memory does not grow with how many there are. `work` and the things can be pickled.
    """
    if workers <= 1:
        yield from map(work, things)
        return
    remaining = iter(things)
    waiting: deque[Future[list[Result]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        while batch := list(islice(remaining, BATCH)):
            waiting.append(pool.submit(_each, work, batch))
            if len(waiting) >= 3 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _each(work: Callable[[Given], Result], batch: list[Given]) -> list[Result]:
    return list(map(work, batch))
