"""Runs the llmapi model that comes with TensorRT-LLM, with the model.yaml beside this file.

NVIDIA's container holds it; TRTLLM_LLMAPI_MODEL names its folder where it is elsewhere, such as in a clone of TensorRT-LLM
(triton_backend/all_models/llmapi/tensorrt_llm/1). It must be of the release that is installed.
"""

import importlib.util
import os
import sys

_FOLDER = os.environ.get("TRTLLM_LLMAPI_MODEL", "/app/all_models/llmapi/tensorrt_llm/1")

sys.path.insert(0, _FOLDER)  # for its helpers.py
_spec = importlib.util.spec_from_file_location("trtllm_llmapi_model", os.path.join(_FOLDER, "model.py"))
if _spec is None or _spec.loader is None:
    raise ImportError(f"TensorRT-LLM's llmapi model is not in {_FOLDER}; set TRTLLM_LLMAPI_MODEL.")
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)
TritonPythonModel = _module.TritonPythonModel
