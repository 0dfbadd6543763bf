"""A model repository for a real Triton server on a CPU: models of `triton_models/`, each configured as its real one is.

Inputs, outputs, types, batch dimensions and policies are those of the real configurations (triton_backend/all_models
in NVIDIA/TensorRT-LLM; what Triton's vLLM backend fills in by itself), without what no text model is asked for.
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

MODELS = Path(__file__).parent / "triton_models"
CORE, LLMAPI, VLLM, ENSEMBLE, BLS, BLS_WHOLE = (
    "tensorrt_llm", "llmapi", "vllm", "ensemble", "tensorrt_llm_bls", "tensorrt_llm_bls_whole",
)  # fmt: skip
FAULTY, FAULTY_WHOLE, STRANGER = "faulty", "faulty_whole", "stranger"
ENGINE_PATH = (CORE, "preprocessing", "postprocessing", ENSEMBLE, BLS, BLS_WHOLE)
_BATCH = 64

_SAMPLING = """
top_k INT32 1 ?, top_p FP32 1 ?, temperature FP32 1 ?, length_penalty FP32 1 ?, repetition_penalty FP32 1 ?,
min_tokens INT32 1 ?, presence_penalty FP32 1 ?, frequency_penalty FP32 1 ?, seed UINT64 1 ?
"""
_TEXT_IN = f"""
text_input STRING 1, decoder_text_input STRING 1 ?, max_tokens INT32 1, num_return_sequences INT32 1 ?,
bad_words STRING -1 ?, stop_words STRING -1 ?, exclude_input_in_output BOOL 1 ?, end_id INT32 1 ?, pad_id INT32 1 ?,
{_SAMPLING}, return_log_probs BOOL 1 ?, beam_width INT32 1 ?, stream BOOL 1 ?, guided_decoding_guide_type STRING 1 ?,
guided_decoding_guide STRING 1 ?
"""
_CORE_IN = """
input_ids INT32 -1, input_lengths INT32 1, request_output_len INT32 1, runtime_top_k INT32 1 ?, runtime_top_p FP32 1 ?,
temperature FP32 1 ?, len_penalty FP32 1 ?, repetition_penalty FP32 1 ?, min_tokens INT32 1 ?, presence_penalty FP32 1 ?,
frequency_penalty FP32 1 ?, seed UINT64 1 ?, streaming BOOL 1 ?, stop BOOL 1 ?, exclude_input_in_output BOOL 1 ?,
num_return_sequences INT32 1 ?, return_log_probs BOOL 1 ?, beam_width INT32 1 ?, end_id INT32 1 ?, pad_id INT32 1 ?,
guided_decoding_guide_type STRING 1 ?,
guided_decoding_guide STRING 1 ?
"""
_LLMAPI_IN = """
text_input STRING -1, streaming BOOL 1 ?, sampling_param_best_of INT32 1 ?, sampling_param_temperature FP32 1 ?,
sampling_param_top_k INT32 1 ?, sampling_param_top_p FP32 1 ?, sampling_param_frequency_penalty FP32 1 ?,
sampling_param_presence_penalty FP32 1 ?, sampling_param_max_tokens INT32 1 ?, sampling_param_stop STRING -1 ?,
sampling_param_seed UINT64 1 ?, sampling_param_exclude_input_from_output BOOL 1 ?,
sampling_param_return_perf_metrics BOOL 1 ?, return_finish_reason BOOL 1 ?, return_stop_reason BOOL 1 ?,
return_cumulative_logprob BOOL 1 ?, stop BOOL 1 ?
"""
_LLMAPI_OUT = "text_output STRING -1, finish_reason STRING -1, stop_reason STRING -1, cumulative_logprob FP32 -1"
_VLLM_IN = """
text_input STRING 1, image STRING -1 ?, stream BOOL 1 ?, sampling_parameters STRING 1 ?,
exclude_input_in_output BOOL 1 ?, return_finish_reason BOOL 1 ?, return_cumulative_logprob BOOL 1 ?,
return_logprobs BOOL 1 ?, return_num_input_tokens BOOL 1 ?, return_num_output_tokens BOOL 1 ?
"""
_VLLM_OUT = """
text_output STRING -1, finish_reason STRING -1, cumulative_logprob FP32 -1, logprobs STRING -1,
num_input_tokens UINT32 1, num_output_tokens UINT32 -1
"""
_STEPS = (
    ("preprocessing", "QUERY=text_input DECODER_QUERY=decoder_text_input REQUEST_OUTPUT_LEN=max_tokens "
     "BAD_WORDS_DICT=bad_words STOP_WORDS_DICT=stop_words",
     "INPUT_ID=_INPUT_ID REQUEST_INPUT_LEN=_REQUEST_INPUT_LEN REQUEST_OUTPUT_LEN=_REQUEST_OUTPUT_LEN"),
    (CORE, "input_ids=_INPUT_ID input_lengths=_REQUEST_INPUT_LEN request_output_len=_REQUEST_OUTPUT_LEN "
     "runtime_top_k=top_k runtime_top_p=top_p temperature=temperature len_penalty=length_penalty "
     "repetition_penalty=repetition_penalty min_tokens=min_tokens presence_penalty=presence_penalty "
     "frequency_penalty=frequency_penalty seed=seed streaming=stream exclude_input_in_output=exclude_input_in_output "
     "end_id=end_id pad_id=pad_id num_return_sequences=num_return_sequences return_log_probs=return_log_probs "
     "beam_width=beam_width guided_decoding_guide=guided_decoding_guide "
     "guided_decoding_guide_type=guided_decoding_guide_type",
     "output_ids=_TOKENS_BATCH sequence_length=_SEQUENCE_LENGTH"),
    ("postprocessing", "TOKENS_BATCH=_TOKENS_BATCH SEQUENCE_LENGTH=_SEQUENCE_LENGTH", "OUTPUT=text_output"),
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model's configuration; tensors as `NAME TYPE DIM [?]`, with a question mark where they are optional."""

    script: str
    inputs: str
    outputs: str
    batched: bool = False
    decoupled: bool = True
    instances: int = 1
    parameters: dict[str, str] = field(default_factory=dict)


_KNOWN = {
    LLMAPI: Model("llmapi", _LLMAPI_IN, _LLMAPI_OUT),
    VLLM: Model("vllm", _VLLM_IN, _VLLM_OUT),
    CORE: Model(
        "core", _CORE_IN, "output_ids INT32 -1,-1, sequence_length INT32 -1", batched=True,
        parameters={"guided_decoding_backend": "xgrammar"},
    ),
    "preprocessing": Model(
        "preprocessing",
        "QUERY STRING 1, DECODER_QUERY STRING 1 ?, REQUEST_OUTPUT_LEN INT32 1, BAD_WORDS_DICT STRING -1 ?, "
        "STOP_WORDS_DICT STRING -1 ?",
        "INPUT_ID INT32 -1, REQUEST_INPUT_LEN INT32 1, REQUEST_OUTPUT_LEN INT32 1", batched=True, decoupled=False,
    ),
    "postprocessing": Model(
        "postprocessing", "TOKENS_BATCH INT32 -1,-1, SEQUENCE_LENGTH INT32 -1", "OUTPUT STRING -1", batched=True,
        decoupled=False,
    ),
    BLS: Model(
        "bls", _TEXT_IN, "text_output STRING -1", batched=True, instances=4,
        parameters={"accumulate_tokens": "false", "tensorrt_llm_model_name": CORE},
    ),
    BLS_WHOLE: Model(
        "bls", _TEXT_IN, "text_output STRING -1", batched=True, instances=2,
        parameters={"accumulate_tokens": "true", "tensorrt_llm_model_name": CORE},
    ),
    FAULTY: Model("faulty", _VLLM_IN, _VLLM_OUT, parameters={"whole": "false"}),
    FAULTY_WHOLE: Model("faulty", _LLMAPI_IN, _LLMAPI_OUT, parameters={"whole": "true"}),
    STRANGER: Model("faulty", "text_input STRING 1, picture FP32 -1", "text_output STRING -1", parameters={"whole": "true"}),
}  # fmt: skip


def write_repository(folder: Path, names: tuple[str, ...], parameters: dict[str, str], site_packages: Path) -> None:
    """The models of these names; `parameters` go into the configuration of each. They import from `site_packages`."""
    prologue = f"import site\n\nsite.addsitedir({str(site_packages)!r})\n"  # the backend's Python heeds no PYTHONPATH
    for name in names:
        version = folder / name / "1"
        version.mkdir(parents=True)
        if name == ENSEMBLE:
            (folder / name / "config.pbtxt").write_text(_ensemble())
            continue
        model = _KNOWN[name]
        (version / "model.py").write_text(prologue + (MODELS / f"{model.script}.py").read_text())
        shutil.copy(MODELS / "smol.py", version / "smol.py")
        (folder / name / "config.pbtxt").write_text(_config(name, model, model.parameters | parameters))


def _config(name: str, model: Model, parameters: dict[str, str]) -> str:
    lines = [
        f'name: "{name}"',
        'backend: "python"',
        f"max_batch_size: {_BATCH if model.batched else 0}",
        *_tensors("input", model.inputs),
        *_tensors("output", model.outputs),
        f"model_transaction_policy {{ decoupled: {str(model.decoupled).lower()} }}",
        f"instance_group [ {{ count: {model.instances} kind: KIND_CPU }} ]",
    ]
    for key, value in parameters.items():
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}')
    return "\n".join(lines) + "\n"


def _ensemble() -> str:
    lines = [f'name: "{ENSEMBLE}"', 'platform: "ensemble"', f"max_batch_size: {_BATCH}"]
    lines += [*_tensors("input", _TEXT_IN), *_tensors("output", "text_output STRING -1"), "ensemble_scheduling {"]
    for model, inputs, outputs in _STEPS:
        maps = [_map("input_map", pair) for pair in inputs.split()] + [
            _map("output_map", one) for one in outputs.split()
        ]
        lines.append(f'  step [ {{ model_name: "{model}" model_version: -1 {" ".join(maps)} }} ]')
    return "\n".join([*lines, "}"]) + "\n"


def _map(kind: str, pair: str) -> str:
    key, _, value = pair.partition("=")
    return f'{kind} {{ key: "{key}" value: "{value}" }}'


def _tensors(kind: str, listed: str) -> list[str]:
    lines: list[str] = []
    for one in listed.replace("\n", " ").replace("-1,-1", "-1;-1").split(","):
        name, datatype, dims, *optional = one.split()
        extra = " optional: true" if optional else ""
        shape = dims.replace(";", ", ")
        lines.append(f'{kind} [ {{ name: "{name}" data_type: TYPE_{datatype} dims: [ {shape} ]{extra} }} ]')
    return lines
