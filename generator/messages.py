"""Between the generator's protobuf messages and its domain: conversions only, and what a message alone can be refused for."""

from google.protobuf.duration_pb2 import Duration

from generator.engines.base import EngineState
from generator.models import ModelView
from generator.requests import (
    ChatMessage,
    CompletionEvent,
    Delta,
    Finish,
    FinishReason,
    Guidance,
    Prompt,
    Role,
    Sampling,
    Started,
)
from mesh.access import identity
from mesh.errors import InvalidInput
from murphey.generator.v1 import generator_pb2 as pb
from murphey.generator.v1 import sampling_pb2

_ROLES = {pb.ROLE_SYSTEM: Role.SYSTEM, pb.ROLE_USER: Role.USER, pb.ROLE_ASSISTANT: Role.ASSISTANT}
_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
    FinishReason.TIME_LIMIT: pb.FINISH_REASON_TIME_LIMIT,
}
_STATES = {
    EngineState.LOADING: pb.MODEL_STATE_LOADING,
    EngineState.READY: pb.MODEL_STATE_READY,
    EngineState.FAILED: pb.MODEL_STATE_FAILED,
}
_SCALARS = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed",
)  # fmt: skip


def prompt(message: pb.Prompt, field: str = "prompt") -> Prompt:
    """InvalidInput when it is neither a chat nor a text, or when a message of the chat is not one."""
    kind = message.WhichOneof("input")
    if kind is None:
        raise InvalidInput(f"{field} is not set; give {field}.chat or {field}.text.", field=field)
    if kind == "text":
        return Prompt(text=message.text)
    path = f"{field}.chat.messages"
    if not message.chat.messages:
        raise InvalidInput(f"{path} is empty; give at least one.", field=path)
    return Prompt(chat=tuple(_turn(turn, f"{path}[{index}]") for index, turn in enumerate(message.chat.messages)))


def _turn(message: pb.Message, path: str) -> ChatMessage:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidInput(f"{path}.role is {message.role}; set system, user or assistant.", field=f"{path}.role")
    if not message.parts:
        raise InvalidInput(f"{path}.parts is empty; give at least one.", field=f"{path}.parts")
    for index, part in enumerate(message.parts):
        kind = part.WhichOneof("content")
        if kind != "text":
            at = f"{path}.parts[{index}]"
            what = "is not set" if kind is None else f"is {kind}, which this model does not take"
            raise InvalidInput(f"{at} {what}; give text.", field=at if kind is None else f"{at}.{kind}")
    return ChatMessage(role, "".join(part.text for part in message.parts))


def sampling(message: sampling_pb2.SamplingParams) -> Sampling:
    """Unset fields stay unset; ranges are checked by the domain."""
    scalars = {name: getattr(message, name) for name in _SCALARS if message.HasField(name)}
    kind = message.guidance.WhichOneof("kind")
    if message.HasField("guidance") and kind is None:
        raise InvalidInput("sampling.guidance has no kind; set one or leave it out.", field="sampling.guidance")
    return Sampling(
        **scalars,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        bad_words=tuple(message.bad_words),
        guidance=None if kind is None else Guidance(kind, getattr(message.guidance, kind)),
        time_limit_s=_seconds(message.time_limit) if message.HasField("time_limit") else None,
    )


def completion_event(event: CompletionEvent) -> pb.StreamGenerateResponse:
    """One event of a stream."""
    if isinstance(event, Delta):
        return pb.StreamGenerateResponse(delta=pb.Delta(text=event.text, tokens=event.tokens))
    if isinstance(event, Started):
        started = pb.Started(
            request_id=event.request_id,
            model=f"models/{event.by.model}",
            model_version=event.by.version,
            prompt_tokens=event.prompt_tokens,
        )
        return pb.StreamGenerateResponse(started=started)
    return pb.StreamGenerateResponse(finish=finish(event))


def finish(event: Finish) -> pb.Finish:
    """How a completion ended."""
    usage, timings = event.usage, event.timings
    return pb.Finish(
        reason=_REASONS[event.reason],
        usage=pb.Usage(
            prompt_tokens=usage.prompt, cached_tokens=_told(usage.cached), completion_tokens=usage.completion
        ),
        model=f"models/{event.by.model}",
        model_version=event.by.version,
        timings=pb.Timings(
            queue=_duration(timings.queue_s), prefill=_duration(timings.prefill_s), decode=_duration(timings.decode_s)
        ),
    )


def _told(cached_tokens: int) -> int:
    """0 where callers have tenants: an engine's cache is everybody's, and the count tells what somebody else has prompted."""
    return cached_tokens if identity.current.get() is None else 0


def model_message(view: ModelView, *, default: bool) -> pb.Model:
    """A model as it is now."""
    return pb.Model(
        name=f"models/{view.id}",
        version=view.version,
        engine=view.engine,
        context_tokens=view.context_tokens,
        sampling_fields=view.sampling_fields,
        part_kinds=["text"],
        state=_STATES[view.state],
        state_message=view.state_message,
        default=default,
        max_running_requests=view.max_running_requests,
        max_pending_tokens=view.max_pending_tokens,
    )


def _duration(seconds: float) -> Duration:
    message = Duration()
    message.FromNanoseconds(max(0, int(seconds * 1e9)))
    return message


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
