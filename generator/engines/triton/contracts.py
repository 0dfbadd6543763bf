"""Which contract a model speaks, decided from what its server says of it: names, types, batch dimension, text mode.

Four are known: TensorRT-LLM's `llmapi` model, its `ensemble` and its BLS (`tensorrt_llm_bls`) of releases up to 1.2, and
Triton's vLLM backend. Names that changed between releases (`min_length`, `random_seed`) are taken as the model has them.
Sources: triton_backend/all_models in NVIDIA/TensorRT-LLM, src/model.py in triton-inference-server/vllm_backend.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from generator.engines.parameters import VLLM_FIELDS
from mesh.errors import FailedPrecondition

DEFAULT_CORE = "tensorrt_llm"
_ALWAYS = frozenset({"stop", "time_limit"})
"""Kept by the generator, whatever the server does."""
_FORMS = frozenset({"guidance", "bad_words"})
_OF_ENGINES: Mapping[str, tuple[str, ...]] = {
    "max_tokens": ("max_tokens",),
    "min_tokens": ("min_tokens", "min_length"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "repetition_penalty": ("repetition_penalty",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "seed": ("seed", "random_seed"),
}
"""Our fields, and what the inputs of ensemble and BLS are called. Their end_id would take the model's own end away, and their
bad_words know a word cut into tokens in one way only: neither is what the contract promises, so both are refused."""
_OF_LLMAPI: Mapping[str, tuple[str, ...]] = {
    name: (f"sampling_param_{name}",)
    for name in ("max_tokens", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed")
}


class Kind(Enum):
    """The contracts; the value is a part of the version that callers see."""

    LLMAPI = "llmapi"
    ENSEMBLE = "ensemble"
    BLS = "bls"
    VLLM = "vllm"


@dataclass(frozen=True)
class ModelFacts:
    """What a server says of a model. Types by the names of inputs and outputs; `steps` are those of an ensemble."""

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    required: frozenset[str] = frozenset()
    batched: bool = False
    decoupled: bool = True
    parameters: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    instances: int = 1

    def parameter(self, name: str) -> str:
        """Empty where it is not set, or still the template's placeholder."""
        value = self.parameters.get(name, "")
        return "" if value.startswith("${") else value


@dataclass(frozen=True)
class Contract:
    """How a model is to be spoken to.

    `inputs` has the name of the input for each field that goes into one. Text is `cumulative` where each response holds all
    of it. `core` is the model that stops a request by its id, where the stream's end does not.
    """

    kind: Kind
    facts: ModelFacts
    fields: frozenset[str]
    inputs: Mapping[str, str]
    cumulative: bool = False
    core: ModelFacts | None = None


def contract_of(facts: ModelFacts, parts: Mapping[str, ModelFacts]) -> Contract:
    """The contract of a model; `parts` are the models that it is made of. FailedPrecondition when none is known that fits."""
    kind = _kind(facts)
    if kind is None:
        raise FailedPrecondition(_stranger(facts))
    if kind is Kind.VLLM:
        return Contract(kind, facts, VLLM_FIELDS | _FORMS, {})
    if kind is Kind.LLMAPI:
        inputs = _named(_OF_LLMAPI, facts)
        return Contract(kind, facts, frozenset(inputs) | _ALWAYS, inputs, cumulative=True)
    core = next((part for part in parts.values() if "request_output_len" in part.inputs), None)
    inputs = _named(_OF_ENGINES, facts)
    fields = frozenset(inputs) | _ALWAYS | (_FORMS if _is_guided(facts, core) else frozenset())
    if kind is Kind.BLS:  # it gives the core an id of its own, so that a request cannot be stopped there
        whole = facts.parameter("accumulate_tokens").lower() in ("true", "yes", "1", "t")
        return Contract(kind, facts, fields, inputs, cumulative=whole)
    return Contract(kind, facts, fields, inputs, core=core if core and "stop" in core.inputs else None)


def parts_of(facts: ModelFacts) -> tuple[str, ...]:
    """The models that one is made of, as far as they matter here."""
    if facts.steps:
        return facts.steps
    return (facts.parameter("tensorrt_llm_model_name") or DEFAULT_CORE,) if _kind(facts) is Kind.BLS else ()


def disorders(parts: Mapping[str, ModelFacts]) -> str:
    """The step of an ensemble whose instances can overtake each other with the texts of one stream; empty where none can."""
    last = list(parts.values())[-1:]
    return next((part.model for part in last if part.instances > 1), "")


def _kind(facts: ModelFacts) -> Kind | None:
    has = facts.inputs.keys()
    if facts.inputs.get("text_input") != "BYTES" or facts.outputs.get("text_output") != "BYTES":
        return None
    if {"stream", "sampling_parameters"} <= has:
        found, known = Kind.VLLM, {"text_input"}
    elif {"streaming", "sampling_param_max_tokens"} <= has:
        found, known = Kind.LLMAPI, {"text_input"}
    elif {"stream", "max_tokens"} <= has:
        found, known = Kind.ENSEMBLE if facts.steps else Kind.BLS, {"text_input", "max_tokens", *_WORDS}
    else:
        return None
    return found if facts.required <= known else None


_WORDS = ("bad_words", "stop_words")
"""Required by the first releases; they are sent empty."""


def _named(names: Mapping[str, tuple[str, ...]], facts: ModelFacts) -> dict[str, str]:
    found = {ours: next((name for name in theirs if name in facts.inputs), "") for ours, theirs in names.items()}
    return {ours: name for ours, name in found.items() if name}


def _is_guided(facts: ModelFacts, core: ModelFacts | None) -> bool:
    """Its inputs alone do not tell: without a backend for it the server ignores them."""
    return "guided_decoding_guide" in facts.inputs and bool(core and core.parameter("guided_decoding_backend"))


def _stranger(facts: ModelFacts) -> str:
    told = ", ".join(f"{name} {datatype}" for name, datatype in list(facts.inputs.items())[:24]) or "none"
    given = ", ".join(f"{name} {datatype}" for name, datatype in list(facts.outputs.items())[:12]) or "none"
    needs = ", ".join(sorted(facts.required)) or "none"
    part = "; it is a part of an ensemble or BLS: name that one" if "request_output_len" in facts.inputs else ""
    return (
        f"The model {facts.model} speaks no contract that is known{part}. It has the inputs {told} (required: {needs}) "
        f"and the outputs {given}. Known, each with text_input BYTES and text_output BYTES: TensorRT-LLM's llmapi model "
        "(streaming, sampling_param_max_tokens), its ensemble and BLS (stream, max_tokens), Triton's vLLM backend "
        "(stream, sampling_parameters)."
    )
