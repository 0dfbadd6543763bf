"""The last step of TensorRT-LLM's ensemble: the text of the new tokens alone, whatever came before them."""

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
        ids = pb.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy().reshape(-1).tolist()
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return pb.InferenceResponse([pb.Tensor("OUTPUT", np.asarray([[text.encode()]], dtype=np.object_))])
