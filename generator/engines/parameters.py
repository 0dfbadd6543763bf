"""Sampling parameters as JSON: by OpenAI's names, and by those that vLLM has beyond them, over HTTP as in Triton's backend.

Every number that can change the text is always there, since servers take an unset one from the checkpoint's
generation_config.json, where our contract has its own defaults.
"""

import json
from typing import Any

from generator.engines.grammars import grammar_without
from generator.requests import Guidance, Sampling
from mesh.errors import InvalidInput

OPENAI_FIELDS = frozenset(
    {
        "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "guidance",
        "time_limit",
    }
)  # fmt: skip
VLLM_FIELDS = OPENAI_FIELDS | {"top_k", "min_p", "repetition_penalty", "min_tokens", "stop_token_ids"}
"""Bad words are one more, where grammars are known: see `form_of`."""


def openai_numbers(sampling: Sampling) -> dict[str, Any]:
    """What OpenAI's API knows, but for the number of tokens and lists."""
    numbers: dict[str, Any] = {
        "temperature": sampling.temperature or 0.0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "presence_penalty": sampling.presence_penalty or 0.0,
        "frequency_penalty": sampling.frequency_penalty or 0.0,
    }
    return numbers if sampling.seed is None else numbers | {"seed": sampling.seed}


def vllm_numbers(sampling: Sampling) -> dict[str, Any]:
    """What vLLM, trtllm-serve and others know beyond that."""
    return {
        "top_k": sampling.top_k or 0,
        "min_p": sampling.min_p or 0.0,
        "repetition_penalty": 1.0 if sampling.repetition_penalty is None else sampling.repetition_penalty,
        "min_tokens": sampling.min_tokens or 0,
        **({"stop_token_ids": list(sampling.stop_token_ids)} if sampling.stop_token_ids else {}),
    }


def form_of(sampling: Sampling, server: str) -> Guidance | None:
    """The form of the text. Bad words are one: servers' own `bad_words` know them cut into tokens in one way only."""
    if not sampling.bad_words:
        return sampling.guidance
    if sampling.guidance is not None:
        message = f"sampling.bad_words and sampling.guidance are both set; {server} follows one of them at a time."
        raise InvalidInput(message, field="sampling.bad_words")
    return Guidance("grammar", grammar_without(sampling.bad_words))


def schema_of(guidance: Guidance, field: str) -> dict[str, Any]:
    """A JSON Schema. InvalidInput when it is none."""
    try:
        schema = json.loads(guidance.source)
    except ValueError as error:
        raise InvalidInput(f"{field} is not JSON: {error}", field=field) from error
    if not isinstance(schema, dict):
        raise InvalidInput(f"{field} is not a JSON object.", field=field)
    return schema
