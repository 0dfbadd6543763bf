"""TensorRT-LLM's llmapi model on the wire: whole text in each response, a reason of the end, `stop` by request id, no counts.

As triton_backend/all_models/llmapi in NVIDIA/TensorRT-LLM speaks, with SmolLM2 in the place of its engine.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportArgumentType=false
import smol
import triton_python_backend_utils as pb


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        parameters = smol.parameters_of(args)
        self._tokenizer = smol.tokenizer_of(parameters)
        self._engine = smol.Engine(parameters, args["model_name"])

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            if smol.value(request, "stop", False):
                self._engine.stop(request.request_id())
                sender.send(smol.failed("Request cancelled by client", pb.TritonError.CANCELLED), flags=smol.FINAL)
                continue
            try:
                self._engine.add(self._run(request, sender))
            except Exception as error:
                response = pb.InferenceResponse(
                    [smol.texts("text_output", ["N/A"])], pb.TritonError(f"Error generating request: {error}")
                )
                sender.send(response, flags=smol.FINAL)

    def _run(self, request, sender):
        def asked(name, default=None):
            return smol.value(request, f"sampling_param_{name}", default)

        prompt = self._tokenizer.encode(smol.value(request, "text_input")).ids
        greedy = asked("top_k") == 1
        config = self._engine.config(
            asked("max_tokens", 32), 0.0 if greedy else asked("temperature", 1.0), top_p=asked("top_p"),
            top_k=None if greedy else asked("top_k"), rng_seed=asked("seed"),
            presence_penalty=asked("presence_penalty"), frequency_penalty=asked("frequency_penalty"),
        )  # fmt: skip
        whole, streaming = smol.Texts(self._tokenizer), smol.value(request, "streaming", False)
        with_reason = smol.value(request, "return_finish_reason", False)

        def told(run, new):
            if run.finish == "cancelled":
                sender.send(smol.failed("Request cancelled by client", pb.TritonError.CANCELLED), flags=smol.FINAL)
                return
            text = whole.grown(new, run.finish is not None)
            if streaming or run.finish:
                tensors = [smol.texts("text_output", [text])]
                tensors += [smol.texts("finish_reason", [str(run.finish)])] if with_reason else []
                sender.send(pb.InferenceResponse(tensors), flags=smol.FINAL if run.finish else 0)

        return smol.Run(request.request_id(), prompt, config, told, sender.is_cancelled)
