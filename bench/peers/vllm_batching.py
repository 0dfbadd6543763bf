"""Peer: vLLM on the CPU, in process. Runs in an environment of its own (bench/README.md), prints one JSON line.

The same weights, dequantized to bf16 by dequantized.py. Groups and counting are those of transformers_batching.py.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any


def tokens_per_s(model: Any, texts: list[str], max_tokens: int) -> float:
    """Generated tokens a second over a whole group."""
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]

    sampling = SamplingParams(temperature=0, max_tokens=max_tokens, min_tokens=max_tokens, ignore_eos=True)
    started_s = time.perf_counter()
    results = model.generate(texts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - started_s
    return sum(len(result.outputs[0].token_ids) for result in results) / seconds


def main() -> None:
    """`python vllm_batching.py --model FOLDER --prompts F.json --max-tokens 64`; the file holds groups of texts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=64)
    arguments = parser.parse_args()
    groups: list[list[str]] = json.loads(arguments.prompts.read_text())

    from vllm import LLM  # pyright: ignore[reportMissingImports]

    model = LLM(arguments.model, dtype="bfloat16", max_model_len=2048, max_num_seqs=64)
    tokens_per_s(model, ["Warm up."], 4)
    print(json.dumps({"tokens_per_s": [tokens_per_s(model, group, arguments.max_tokens) for group in groups]}))


if __name__ == "__main__":
    main()
