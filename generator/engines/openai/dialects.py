"""What each kind of OpenAI-compatible server understands beyond the common fields, and the body of a request to it.

A field that a server would ignore is not among its `fields`: it is refused by name before it is sent.
"""

import re
from dataclasses import dataclass
from typing import Any

from generator.engines.base import RemoteRequest
from generator.engines.parameters import (
    OPENAI_FIELDS,
    VLLM_FIELDS,
    form_of,
    openai_numbers,
    schema_of,
    vllm_numbers,
)
from generator.requests import Prompt, Sampling
from mesh.errors import InvalidInput

_MOST_STOPS_SENT = 4
"""What OpenAI takes. All are looked for in the text that comes (`generator/stops.py`), whatever the server does."""


@dataclass(frozen=True)
class Dialect:
    """One kind of server. `takes_ids`: a prompt may be token ids; `reports_steps`: each chunk may come with its usage."""

    name: str
    fields: frozenset[str]
    guidance: frozenset[str]
    health_path: str = ""
    takes_ids: bool = False
    reports_steps: bool = False


VLLM = Dialect(
    "vllm", VLLM_FIELDS | {"bad_words"}, frozenset({"json_schema", "regex", "grammar"}), "/health", True, True
)
VLLM_BEFORE_STRUCTURED_OUTPUTS = Dialect("vllm", VLLM_FIELDS, frozenset({"json_schema"}), "/health", True, True)
TRTLLM = Dialect("trtllm", VLLM_FIELDS, frozenset({"json_schema", "regex", "grammar"}), "/health", True)
OPENAI = Dialect("openai", OPENAI_FIELDS, frozenset({"json_schema"}))
PLAIN = Dialect("plain", OPENAI_FIELDS, frozenset({"json_schema"}))
_BY_NAME = {"trtllm": TRTLLM, "openai": OPENAI, "plain": PLAIN}
_OWNERS = {
    "vllm": "vllm",
    "tensorrt_llm": "trtllm",
    "openai": "openai",
    "openai-internal": "openai",
    "system": "openai",
}


def dialect_of(setting: str, owned_by: str, version: str) -> Dialect:
    """By what the settings say, or with `auto` by who owns the model in the server's list; a stranger is plain."""
    name = _OWNERS.get(owned_by, "plain") if setting == "auto" else setting
    if name == "vllm":
        return VLLM if _has_structured_outputs(version) else VLLM_BEFORE_STRUCTURED_OUTPUTS
    return _BY_NAME[name]


def _has_structured_outputs(version: str) -> bool:
    """vLLM 0.12 took the fields guided_… away; an unknown field is ignored there, so an older one must not be sent these."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= (0, 12)


def path_of(request: RemoteRequest) -> str:
    """Below the base URL."""
    return "/chat/completions" if request.prompt.chat and request.ids is None else "/completions"


def body_of(request: RemoteRequest, dialect: Dialect, model: str) -> dict[str, Any]:
    """The JSON of a streamed request. InvalidInput names what this server cannot be asked for."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        **_prompt(request),
        "stream": True,
        "stream_options": {"include_usage": True},
        **openai_numbers(sampling),
    }
    body["max_completion_tokens" if dialect is OPENAI and "messages" in body else "max_tokens"] = request.max_tokens
    if dialect.reports_steps:
        body["stream_options"]["continuous_usage_stats"] = True
    if sampling.stop:
        body["stop"] = list(sampling.stop if dialect.fields > OPENAI_FIELDS else sampling.stop[:_MOST_STOPS_SENT])
    if dialect.fields > OPENAI_FIELDS:
        body |= vllm_numbers(sampling)
    return body | _form(sampling, dialect, chat="messages" in body)


def messages_of(prompt: Prompt) -> list[dict[str, str]]:
    """A chat as the servers take it."""
    return [{"role": message.role.value, "content": message.text} for message in prompt.chat]


def _prompt(request: RemoteRequest) -> dict[str, Any]:
    if request.ids is not None:
        return {"prompt": list(request.ids)}
    return {"messages": messages_of(request.prompt)} if request.prompt.chat else {"prompt": request.prompt.text}


def _form(sampling: Sampling, dialect: Dialect, *, chat: bool) -> dict[str, Any]:
    """The fields that keep the text to a form."""
    guidance = form_of(sampling, "a vLLM server")
    if guidance is None:
        return {}
    field = f"sampling.guidance.{guidance.kind}"
    if guidance.kind not in dialect.guidance:
        raise InvalidInput(f"{field} is set, but a server of the kind {dialect.name} cannot follow it.", field=field)
    if guidance.kind == "json_schema":
        return {"response_format": _json_format(schema_of(guidance, field), dialect, chat=chat, field=field)}
    if dialect is TRTLLM:
        kind = "ebnf" if guidance.kind == "grammar" else "regex"
        return {"response_format": {"type": kind, kind: guidance.source}}
    return {"structured_outputs": {guidance.kind: guidance.source}}


def _json_format(schema: dict[str, Any], dialect: Dialect, *, chat: bool, field: str) -> dict[str, Any]:
    if dialect is TRTLLM:  # what its releases read under "json_schema" differs
        return {"type": "json", "schema": schema}
    if not chat and dialect.fields == OPENAI_FIELDS:
        raise InvalidInput(f"{field} needs prompt.chat: completions of plain text follow no form there.", field=field)
    return {"type": "json_schema", "json_schema": {"name": "completion", "schema": schema, "strict": True}}
