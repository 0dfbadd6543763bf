"""The generator over gRPC."""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import fields

import grpc.aio

from mesh.deadline import call_options
from mesh.errors import MurpheyError, translated
from murphey.generator.v1 import generator_pb2, generator_pb2_grpc, sampling_pb2
from orchestrator.clients.faults import named_in_question
from orchestrator.events import EngineTimings, Generated, StopReason, Usage
from orchestrator.ports import Chat, Model
from orchestrator.questions import Sampling

SERVICE = "murphey.generator.v1.GeneratorService"
IDEMPOTENT = ["CountTokens", "ListModels", "GetModel", "StreamGenerate"]
"""Generation changes nothing, so that a stream which has said nothing yet may be asked for again."""
MODEL_FRESH_S = 10.0
"""How long a model's description is used again: a changed default model is seen after this time."""

_ROLES = {
    "system": generator_pb2.ROLE_SYSTEM,
    "user": generator_pb2.ROLE_USER,
    "assistant": generator_pb2.ROLE_ASSISTANT,
}
_REASONS = {
    generator_pb2.FINISH_REASON_STOP: StopReason.STOP,
    generator_pb2.FINISH_REASON_LENGTH: StopReason.LENGTH,
    generator_pb2.FINISH_REASON_TIME_LIMIT: StopReason.TIME_LIMIT,
}


class GeneratorClient:
    """Implements `ports.Generator`. `timeout_s` bounds a call whose own deadline is later."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        self._stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        self._timeout_s = timeout_s
        self._models: dict[str, tuple[float, Model]] = {}

    async def model(self, name: str) -> Model:
        """The model, described anew when the last description is older than MODEL_FRESH_S."""
        read_at, known = self._models.get(name, (0.0, None))
        if known is not None and time.monotonic() - read_at < MODEL_FRESH_S:
            return known
        try:
            with translated("generator"):
                request = generator_pb2.GetModelRequest(name=name)
                response = await self._stub.GetModel(request, **call_options(self._timeout_s))
        except MurpheyError as error:
            raise named_in_question(error) from error
        model = Model(response.model.name, response.model.version, response.model.context_tokens)
        self._models[name] = (time.monotonic(), model)
        return model

    async def count_tokens(self, model: str, prompts: Sequence[str | Chat]) -> list[int]:
        """Counts in one call."""
        request = generator_pb2.CountTokensRequest(model=model, prompts=[_prompt(prompt) for prompt in prompts])
        with translated("generator"):
            response = await self._stub.CountTokens(request, **call_options(self._timeout_s))
        return list(response.tokens)

    async def stream(self, model: str, chat: Chat, sampling: Sampling) -> AsyncGenerator[str | Generated, None]:
        """Streams; leaving the generator in any way cancels the call, which frees the engine's slot."""
        request = generator_pb2.StreamGenerateRequest(
            model=model, prompt=_prompt(chat), sampling=sampling_message(sampling)
        )
        call = self._stub.StreamGenerate(request, **call_options(self._timeout_s))
        try:
            with translated("generator"):
                async for response in call:
                    kind = response.WhichOneof("event")
                    if kind == "delta":
                        yield response.delta.text
                    elif kind == "finish":
                        yield _generated(response.finish)
        except MurpheyError as error:
            raise named_in_question(error) from error
        finally:
            call.cancel()


def _prompt(prompt: str | Chat) -> generator_pb2.Prompt:
    if isinstance(prompt, str):
        return generator_pb2.Prompt(text=prompt)
    messages = [
        generator_pb2.Message(role=_ROLES[message.role], parts=[generator_pb2.Part(text=message.text)])
        for message in prompt
    ]
    return generator_pb2.Prompt(chat=generator_pb2.Chat(messages=messages))


def sampling_message(sampling: Sampling) -> sampling_pb2.SamplingParams:
    """What is set, as the generator takes it."""
    params = sampling_pb2.SamplingParams()
    for field in fields(sampling):
        value = getattr(sampling, field.name)
        if field.name == "guidance" and value is not None:
            params.guidance.CopyFrom(sampling_pb2.Guidance(**dict([value])))
        elif field.name == "time_limit_s" and value is not None:
            params.time_limit.FromNanoseconds(round(value * 1e9))
        elif isinstance(value, tuple):
            getattr(params, field.name).extend(value)
        elif value is not None:
            setattr(params, field.name, value)
    return params


def _generated(finish: generator_pb2.Finish) -> Generated:
    usage, timings = finish.usage, finish.timings
    return Generated(
        reason=_REASONS.get(finish.reason, StopReason.STOP),
        usage=Usage(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
        model=f"{finish.model}@{finish.model_version}",
        timings=EngineTimings(
            timings.queue.ToTimedelta().total_seconds(),
            timings.prefill.ToTimedelta().total_seconds(),
            timings.decode.ToTimedelta().total_seconds(),
        ),
    )
