"""Triton's vLLM backend on the wire: new text in each response, parameters as one JSON object, counts when asked for.

As src/model.py in triton-inference-server/vllm_backend speaks, with SmolLM2 in the place of its engine.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import json

import numpy as np
import openvino_genai as genai
import smol
import triton_python_backend_utils as pb

_KNOWN = {
    "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed", "stop", "stop_token_ids", "min_tokens", "structured_outputs", "ignore_eos",
}  # fmt: skip
_FORMS = {"json": "json_schema", "regex": "regex", "grammar": "grammar"}


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        parameters = smol.parameters_of(args)
        self._tokenizer = smol.tokenizer_of(parameters)
        self._engine = smol.Engine(parameters, args["model_name"])

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._engine.add(self._run(request, sender))
            except Exception as error:
                response = pb.InferenceResponse(
                    [smol.texts("text_output", ["N/A"])], pb.TritonError(f"Error generating stream: {error}")
                )
                sender.send(response, flags=smol.FINAL)

    def _run(self, request, sender):
        text, stream = smol.value(request, "text_input"), smol.value(request, "stream", False)
        prompt = self._tokenizer.encode(text).ids
        asked = json.loads(smol.value(request, "sampling_parameters", "{}"))
        config = self._config(asked)
        if stream and not smol.value(request, "exclude_input_in_output", True):
            raise ValueError("When streaming, `exclude_input_in_output` = False is not allowed.")
        wanted = {
            name
            for name in ("finish_reason", "num_input_tokens", "num_output_tokens")
            if smol.value(request, f"return_{name}", False)
        }
        whole, unsent, shown = smol.Texts(self._tokenizer), [], ""

        def told(run, new):
            if run.finish == "cancelled":
                sender.send(smol.failed("Request was cancelled", pb.TritonError.CANCELLED), flags=smol.FINAL)
                return
            nonlocal shown
            before, shown = shown, _shown(whole.grown(new, run.finish is not None), asked.get("stop", []), run.finish)
            unsent.extend(new)
            if not (stream or run.finish):
                return
            tensors = [smol.texts("text_output", [shown[len(before) :] if stream else shown])]
            if "finish_reason" in wanted:
                tensors.append(smol.texts("finish_reason", [str(run.finish)]))
            if "num_input_tokens" in wanted:
                tensors.append(pb.Tensor("num_input_tokens", np.asarray(len(prompt), dtype=np.uint32)))
            if "num_output_tokens" in wanted:
                tensors.append(pb.Tensor("num_output_tokens", np.asarray([len(unsent)], dtype=np.uint32)))
            unsent.clear()
            sender.send(pb.InferenceResponse(tensors), flags=smol.FINAL if run.finish else 0)

        return smol.Run(request.request_id(), prompt, config, told, sender.is_cancelled)

    def _config(self, asked):
        """What vLLM does not know it refuses, though not in so many words."""
        if unknown := asked.keys() - _KNOWN:
            raise AttributeError(f"'NoneType' object has no attribute 'lora_name' ({', '.join(sorted(unknown))})")
        sampled = asked.get("temperature", 1.0)
        config = self._engine.config(
            asked.get("max_tokens", 16), sampled, rng_seed=asked.get("seed"), min_new_tokens=asked.get("min_tokens"),
            repetition_penalty=asked.get("repetition_penalty"), presence_penalty=asked.get("presence_penalty"),
            frequency_penalty=asked.get("frequency_penalty"),
        )  # fmt: skip
        if sampled:
            config.top_p, config.min_p = asked.get("top_p", 1.0), asked.get("min_p", 0.0)
            if asked.get("top_k", -1) > 0:
                config.top_k = asked["top_k"]
        config.stop_strings, config.include_stop_str_in_output = set(asked.get("stop", [])), True
        config.stop_token_ids = config.stop_token_ids | set(asked.get("stop_token_ids", []))
        for kind, source in json.loads(asked.get("structured_outputs", "{}")).items():
            written = json.dumps(source) if kind == "json" else source
            config.structured_output_config = genai.StructuredOutputConfig(**{_FORMS[kind]: written})
        return config


def _shown(text, stops, finish):
    """The text up to the first stop string, and none that could become one while it goes on."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    held = 0 if finish else max(map(len, stops), default=1) - 1
    return text[: min(ends, default=max(0, len(text) - held))]
