"""The first step of TensorRT-LLM's ensemble: text to token ids, with the special tokens that the tokenizer adds."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
import numpy as np
import smol
import triton_python_backend_utils as pb


class TritonPythonModel:
    """See the module."""

    def initialize(self, args):
        self._tokenizer = smol.tokenizer_of(smol.parameters_of(args))

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        ids = self._tokenizer.encode(smol.value(request, "QUERY")).ids
        return pb.InferenceResponse(
            [
                pb.Tensor("INPUT_ID", np.asarray([ids], dtype=np.int32)),
                pb.Tensor("REQUEST_INPUT_LEN", np.asarray([[len(ids)]], dtype=np.int32)),
                pb.Tensor("REQUEST_OUTPUT_LEN", pb.get_input_tensor_by_name(request, "REQUEST_OUTPUT_LEN").as_numpy()),
            ]
        )
