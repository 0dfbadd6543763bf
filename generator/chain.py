"""A chain of models: the first that can answers; one that fails before it has said anything is left for the next.

Once text has been given out, a failure ends the request: another model's words would be no continuation. So Started comes with
the first text, when it is known which model answers. A breaker for each model keeps a chain from asking one that is down.
What a request may ask for is what all models of the chain can do, so that it does not depend on who is up.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from generator import sampling as sampling_rules
from generator.breaker import Attempt, Breaker
from generator.engines.base import EngineState
from generator.models import Model, ModelView
from generator.requests import CompletionEvent, Counts, Prompt, Sampling, Started
from mesh import logs, metrics
from mesh.errors import FailedPrecondition, Internal, InvalidInput, MurpheyError, Overloaded, Unavailable

log = logs.get(__name__)

_LEFT = metrics.counter(
    "generator_fallbacks", "Times that a model of a chain was left for the next one.", ("chain", "model", "reason")
)
_MOVES_ON = (Unavailable, Overloaded, FailedPrecondition, Internal)
"""Faults of a model, not of the request."""


@dataclass(frozen=True)
class Member:
    """A model of a chain; the breaker is the model's, whatever chains it is in."""

    model: Model
    breaker: Breaker

    @property
    def usable(self) -> bool:
        """Whether it may answer now, as far as can be known without asking."""
        return self.model.view().state is EngineState.READY and self.breaker.passes


class ModelChain:
    """Implements `models.Model`. `first_text_s` is how long a model that is not the last may say nothing."""

    def __init__(self, id_: str, members: Sequence[Member], first_text_s: float) -> None:
        self.id = id_
        self._members, self._first_text_s = tuple(members), first_text_s

    def view(self) -> ModelView:
        """The model that would answer now, with what all of the chain can do."""
        views = [member.model.view() for member in self._members]
        known = [view for view in views if view.context_tokens]
        first = next((member.model.view() for member in self._members if member.usable), views[0])
        ready = any(view.state is EngineState.READY for view in views)
        return replace(
            first,
            id=self.id,
            context_tokens=min((view.context_tokens for view in known), default=0),
            sampling_fields=tuple(
                sorted(set[str].intersection(*(set(view.sampling_fields) for view in known or views)))
            ),
            state=EngineState.READY if ready else first.state,
            state_message="" if ready else " ".join(view.state_message for view in views),
        )

    async def count(self, prompts: Sequence[Prompt]) -> Counts:
        """By the first model that can."""
        faults: dict[str, MurpheyError] = {}
        for member in sorted(self._members, key=lambda member: not member.usable):
            try:
                return await member.model.count(prompts)
            except _MOVES_ON as error:
                faults[member.model.id] = error
        raise self._nobody(faults)

    async def complete(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[CompletionEvent]:
        """Runs a prompt on the first model that answers. Raises what `Model.complete` raises."""
        view = self.view()
        sampling_rules.check(sampling, frozenset(view.sampling_fields), f"of a model in the chain {self.id}", None)
        faults: dict[str, MurpheyError] = {}
        for member in self._members:
            attempt = member.breaker.enter()
            if attempt is None:
                faults[member.model.id] = _resting(member)
                continue
            last = member is self._members[-1]
            started: Started | None = None
            spoke = False
            with attempt:
                try:
                    async with aclosing(member.model.complete(prompt, sampling)) as events:
                        async for event in _first_within(events, None if last else self._first_text_s, member.model.id):
                            if isinstance(event, Started):
                                started = event
                                continue
                            if not spoke and started is not None:
                                yield started
                            spoke = True
                            attempt.succeeded()
                            yield event
                    return
                except InvalidInput as error:
                    attempt.succeeded()
                    if spoke or not faults:
                        raise
                    faults[member.model.id] = error
                except _MOVES_ON as error:
                    self._left(member, attempt, error)
                    if spoke:
                        raise
                    faults[member.model.id] = error
        raise self._nobody(faults)

    def _left(self, member: Member, attempt: Attempt, error: MurpheyError) -> None:
        """A model that is full is well."""
        if isinstance(error, Overloaded):
            attempt.succeeded()
        else:
            attempt.failed()
        _LEFT.labels(self.id, member.model.id, error.reason.lower()).inc()
        log.warning("model_left", chain=self.id, model=member.model.id, reason=error.reason, message=error.message)

    def _nobody(self, faults: Mapping[str, MurpheyError]) -> MurpheyError:
        """All are full, or not all: then the chain cannot be used now. `faults` are by the models' ids."""
        told = [f"{model}: {fault.message}" for model, fault in faults.items()]
        message = f"No model of the chain {self.id} can answer now. {' '.join(told)}"
        waits = [fault.retry_after_s for fault in faults.values() if fault.retry_after_s]
        kind = Overloaded if all(isinstance(fault, Overloaded) for fault in faults.values()) else Unavailable
        return kind(message, retry_after_s=min(waits, default=1.0))


def _resting(member: Member) -> Unavailable:
    wait_s = max(member.breaker.wait_s, 0.1)
    message = f"it has failed several times and is left alone for {wait_s:.1f} s."
    return Unavailable(message, retry_after_s=wait_s)


async def _first_within(
    events: AsyncGenerator[CompletionEvent], seconds: float | None, model: str
) -> AsyncGenerator[CompletionEvent]:
    """The events; Unavailable when nothing but Started has come for so long."""
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                event = await anext(events)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise Unavailable(f"The model {model} has said nothing for {seconds:g} s.") from error
        deadline = deadline if isinstance(event, Started) else None
        yield event
