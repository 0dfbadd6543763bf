"""A Llama model as OpenVINO IR with weights in 8 or 4 bits, which the engine openvino runs.

openvino-genai makes the IR of a GGUF file and saves it; no optimum-intel is needed, which pins other versions. It runs in a
process of its own (`python -m training.exporting.openvino FOLDER OUT int8`), as it takes a model's memory twice.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mesh.errors import FailedPrecondition
from training.exporting.gguf import Bits, write_gguf
from training.exporting.huggingface import copy_beside

MODEL = "openvino_model.xml"
BITS: tuple[Bits, ...] = ("int8", "int4")


def write_openvino(huggingface: Path, out: Path, bits: Bits) -> None:
    """Makes the folder `out` from a folder in Hugging Face's form. FailedPrecondition when OpenVINO cannot."""
    command = [sys.executable, "-m", "training.exporting.openvino", str(huggingface), str(out), bits]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode or not (out / MODEL).is_file():
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise FailedPrecondition(f"OpenVINO could not convert the model to {bits}: {reason[0]}")


def _convert(huggingface: Path, out: Path, bits: Bits) -> None:
    import openvino as ov
    import openvino_genai as ov_genai
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        tokenizer = AutoTokenizer.from_pretrained(huggingface)
        converted: Any = convert_tokenizer(tokenizer, with_detokenizer=True)
        encoder, decoder = converted
        ov.save_model(encoder, made / "openvino_tokenizer.xml")
        ov.save_model(decoder, made / "openvino_detokenizer.xml")
        file = Path(scratch) / "model.gguf"
        write_gguf(huggingface, file, bits)
        ov_genai.LLMPipeline(file, ov_genai.Tokenizer(made), "CPU", enable_save_ov_model=True)
        for path in Path(scratch).glob("openvino_model.*"):
            path.rename(made / path.name)
        copy_beside(huggingface, made)
        made.rename(out)


if __name__ == "__main__":
    wanted: dict[str, Bits] = {bits: bits for bits in BITS}
    _convert(Path(sys.argv[1]), Path(sys.argv[2]), wanted[sys.argv[3]])
