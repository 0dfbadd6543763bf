"""The engine of TensorRT-LLM's ensemble and BLS (`tensorrt_llm`) on the wire: token ids in, the new ones out, `stop` by id.

As the C++ backend of releases up to 1.2 speaks (inflight_batcher_llm), with SmolLM2 in its place.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false
import numpy as np
import openvino_genai as genai
import smol
import triton_python_backend_utils as pb

_FORMS = {"json_schema": "json_schema", "regex": "regex", "ebnf_grammar": "grammar"}


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        self._engine = smol.Engine(smol.parameters_of(args), args["model_name"])

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            if smol.value(request, "stop", False):
                if request.request_id():
                    self._engine.stop(request.request_id())
                    sender.send(flags=smol.FINAL)
                else:
                    sender.send(
                        smol.failed("Trying to stop a request but request ID is not provided"), flags=smol.FINAL
                    )
                continue
            self._engine.add(self._run(request, sender))

    def _run(self, request, sender):
        streaming = smol.value(request, "streaming", False)

        def told(run, new):
            if run.finish == "cancelled":
                sender.send(flags=smol.FINAL)
                return
            if streaming or run.finish:
                ids = new if streaming else run.ids
                tensors = [
                    pb.Tensor("output_ids", np.asarray([[ids]], dtype=np.int32).reshape(1, 1, -1)),
                    pb.Tensor("sequence_length", np.asarray([[len(ids)]], dtype=np.int32)),
                ]
                sender.send(pb.InferenceResponse(tensors), flags=smol.FINAL if run.finish else 0)

        prompt = pb.get_input_tensor_by_name(request, "input_ids").as_numpy().reshape(-1).tolist()
        return smol.Run(request.request_id(), prompt, self._config(request), told, sender.is_cancelled)

    def _config(self, request):
        """Greedy without top_k and top_p, as the engine's own sampler is."""

        def asked(name):
            return smol.value(request, name)

        greedy = asked("runtime_top_k") == 1 or (asked("runtime_top_k") is None and asked("runtime_top_p") is None)
        config = self._engine.config(
            smol.value(request, "request_output_len"), 0.0 if greedy else smol.value(request, "temperature", 1.0),
            rng_seed=asked("seed"), min_new_tokens=asked("min_tokens"), repetition_penalty=asked("repetition_penalty"),
            presence_penalty=asked("presence_penalty"), frequency_penalty=asked("frequency_penalty"),
            top_p=None if greedy else asked("runtime_top_p"), top_k=None if greedy else asked("runtime_top_k"),
        )  # fmt: skip
        if kind := asked("guided_decoding_guide_type"):
            form = {_FORMS[kind]: asked("guided_decoding_guide")}
            config.structured_output_config = genai.StructuredOutputConfig(**form)
        return config
