"""Makes safetensors of a GGUF model, for peers that read nothing else. Prints the folder as JSON.

`python dequantized.py --gguf F --folder F`.
"""

import argparse
import json
from pathlib import Path


def main() -> None:
    """Weights in bf16, with tokenizer and configuration."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, name = str(arguments.gguf.parent), arguments.gguf.name
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(arguments.folder)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.bfloat16)
    model.save_pretrained(arguments.folder)
    print(json.dumps({"folder": str(arguments.folder)}))


if __name__ == "__main__":
    main()
