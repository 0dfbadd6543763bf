"""TensorRT-LLM's BLS (`tensorrt_llm_bls`) on the wire: its steps called from within, an id of its own for the engine.

As inflight_batcher_llm/tensorrt_llm_bls in NVIDIA/TensorRT-LLM speaks: one request occupies an instance until its end, whether
its caller is there or not; the final flag comes in a response of its own; an error is a whole traceback.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import traceback
import uuid

import numpy as np
import smol
import triton_python_backend_utils as pb

_PASSED = {
    "top_k": "runtime_top_k", "top_p": "runtime_top_p", "temperature": "temperature", "seed": "seed",
    "repetition_penalty": "repetition_penalty", "min_tokens": "min_tokens", "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty", "stream": "streaming",
    "guided_decoding_guide_type": "guided_decoding_guide_type", "guided_decoding_guide": "guided_decoding_guide",
}  # fmt: skip


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        parameters = smol.parameters_of(args)
        self._whole = parameters["accumulate_tokens"] == "true"
        self._core = parameters["tensorrt_llm_model_name"]

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._answer(request, sender)
            except Exception:
                sender.send(smol.failed(traceback.format_exc()))
            sender.send(flags=smol.FINAL)

    def _answer(self, request, sender):
        id_ = str(uuid.uuid4())
        inputs = [
            pb.Tensor("QUERY", pb.get_input_tensor_by_name(request, "text_input").as_numpy()),
            pb.Tensor("REQUEST_OUTPUT_LEN", pb.get_input_tensor_by_name(request, "max_tokens").as_numpy()),
        ]
        names = ["INPUT_ID", "REQUEST_INPUT_LEN", "REQUEST_OUTPUT_LEN"]
        found = {one.name(): one.as_numpy() for one in _asked("preprocessing", names, inputs, id_).output_tensors()}
        tensors = [
            pb.Tensor("input_ids", found["INPUT_ID"]),
            pb.Tensor("input_lengths", found["REQUEST_INPUT_LEN"]),
            pb.Tensor("request_output_len", found["REQUEST_OUTPUT_LEN"]),
        ]
        for ours, theirs in _PASSED.items():
            if (given := pb.get_input_tensor_by_name(request, ours)) is not None:
                tensors.append(pb.Tensor(theirs, given.as_numpy()))
        engine = pb.InferenceRequest(
            model_name=self._core, inputs=tensors, request_id=id_,
            requested_output_names=["output_ids", "sequence_length"],
        )  # fmt: skip
        so_far = []
        for response in engine.exec(decoupled=True):
            if response.has_error():
                raise pb.TritonModelException(response.error().message())
            if not response.output_tensors():
                continue
            new = pb.get_output_tensor_by_name(response, "output_ids").as_numpy().reshape(-1).tolist()
            so_far += new
            sender.send(pb.InferenceResponse([pb.Tensor("text_output", self._text(so_far if self._whole else new))]))

    def _text(self, ids):
        tokens = pb.Tensor("TOKENS_BATCH", np.asarray(ids, dtype=np.int32).reshape(1, 1, -1))
        length = pb.Tensor("SEQUENCE_LENGTH", np.asarray([[len(ids)]], dtype=np.int32))
        return _asked("postprocessing", ["OUTPUT"], [tokens, length], "").output_tensors()[0].as_numpy()


def _asked(model, outputs, inputs, id_):
    response = pb.InferenceRequest(
        model_name=model, inputs=inputs, request_id=id_, requested_output_names=outputs
    ).exec()
    if response.has_error():
        raise pb.TritonModelException(response.error().message())
    return response
