"""A request as the tensors of a model's contract. What a contract cannot be asked for was refused by name before.

Greedy is `top_k` 1 on TensorRT-LLM, where the meaning of a temperature of 0 differs between releases; sampling always has a
`top_p`, without which it would be greedy there, and a seed, which would be the same each time.
"""

import json
import random
from typing import Any

from generator.engines.base import RemoteRequest
from generator.engines.parameters import form_of, openai_numbers, schema_of, vllm_numbers
from generator.engines.triton.contracts import Contract, Kind, ModelFacts
from generator.engines.triton.tensors import Value, add_input
from generator.requests import Guidance, Sampling
from murphey.triton import inference_pb2 as pb

_GUIDE_TYPES = {"json_schema": "json_schema", "regex": "regex", "grammar": "ebnf_grammar"}
_ENDING = "triton_enable_empty_final_response"
"""Without it a stream whose end comes after its last text would end in silence."""
_COUNTS = ("num_input_tokens", "num_output_tokens")


def request_of(request: RemoteRequest, contract: Contract, id_: str) -> pb.ModelInferRequest:
    """The message that starts a completion. InvalidInput names a field that this contract cannot follow."""
    facts = contract.facts
    values, outputs = _of_vllm(request, facts) if contract.kind is Kind.VLLM else _of_tensorrt(request, contract)
    message = _message(facts, id_, {"text_input": [request.prompt.text], **values})
    for name in ("text_output", *outputs):
        message.outputs.append(pb.ModelInferRequest.InferRequestedOutputTensor(name=name))
    message.parameters[_ENDING].bool_param = True
    return message


def stop_of(core: ModelFacts, id_: str) -> pb.ModelInferRequest:
    """The message that stops the request `id_` in the engine of an ensemble, which passes its own id on to it."""
    message = _message(core, id_, {"input_ids": [0], "input_lengths": [0], "request_output_len": [0], "stop": [True]})
    message.parameters[_ENDING].bool_param = True
    return message


def _message(facts: ModelFacts, id_: str, values: dict[str, list[Any]]) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name=facts.model, id=id_)
    for name, value in values.items():
        add_input(message, name, facts.inputs[name], value, facts.batched)
    return message


def _of_tensorrt(request: RemoteRequest, contract: Contract) -> tuple[dict[str, list[Value]], list[str]]:
    """Inputs of the llmapi model, of ensemble and of BLS, and the outputs beside the text."""
    values = _numbers(request, contract)
    inputs = contract.facts.inputs
    if contract.kind is Kind.LLMAPI:
        values["streaming"] = [contract.facts.decoupled]
        wanted = {"sampling_param_exclude_input_from_output": True, "return_finish_reason": True}
        values |= {name: [value] for name, value in wanted.items() if name in inputs}
        return values, ["finish_reason"] if "return_finish_reason" in values else []
    values["stream"] = [contract.facts.decoupled]
    if "exclude_input_in_output" in inputs:
        values["exclude_input_in_output"] = [True]
    values |= _words(request.sampling, contract.facts)
    if form := form_of(request.sampling, "TensorRT-LLM"):
        values |= _guide(form)
    return values, []


def _numbers(request: RemoteRequest, contract: Contract) -> dict[str, list[Value]]:
    sampling = request.sampling
    ours: dict[str, Value | None] = {
        "max_tokens": request.max_tokens,
        "min_tokens": sampling.min_tokens or None,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    if sampling.temperature:
        ours |= {
            "temperature": sampling.temperature,
            "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
            "top_k": sampling.top_k or None,
            "seed": random.getrandbits(63) if sampling.seed is None else sampling.seed,
        }
    else:
        ours["top_k"] = 1
    named = contract.inputs
    return {named[name]: [value] for name, value in ours.items() if value is not None and name in named}


def _words(sampling: Sampling, facts: ModelFacts) -> dict[str, list[Value]]:
    """The server may stop at them sooner than the text shows; where they are required there is one that is empty."""
    values: dict[str, list[Value]] = {"stop_words": list(sampling.stop), "bad_words": []}
    return {
        name: words or [""]
        for name, words in values.items()
        if name in facts.inputs and (words or name in facts.required)
    }


def _guide(form: Guidance) -> dict[str, list[Value]]:
    if form.kind == "json_schema":
        schema_of(form, "sampling.guidance.json_schema")
    return {"guided_decoding_guide_type": [_GUIDE_TYPES[form.kind]], "guided_decoding_guide": [form.source]}


def _of_vllm(request: RemoteRequest, facts: ModelFacts) -> tuple[dict[str, list[Value]], list[str]]:
    """Inputs of the vLLM backend, which takes the parameters as one JSON object, and the outputs beside the text."""
    sampling = request.sampling
    parameters: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        **openai_numbers(sampling),
        **vllm_numbers(sampling),
    }
    parameters["top_k"] = sampling.top_k or -1  # 0 is refused by older ones
    if sampling.stop:
        parameters["stop"] = list(sampling.stop)
    if form := form_of(sampling, "vLLM"):
        source: Any = form.source
        if form.kind == "json_schema":
            source = schema_of(form, "sampling.guidance.json_schema")
        kind = "json" if form.kind == "json_schema" else form.kind
        parameters["structured_outputs"] = json.dumps({kind: source})  # JSON in JSON: so the backend reads it
    values: dict[str, list[Value]] = {"stream": [facts.decoupled], "sampling_parameters": [json.dumps(parameters)]}
    if "exclude_input_in_output" in facts.inputs:
        values["exclude_input_in_output"] = [True]
    told = [name for name in ("finish_reason", *_COUNTS) if f"return_{name}" in facts.inputs and name in facts.outputs]
    values.update({f"return_{name}": [True] for name in told})
    return values, told
