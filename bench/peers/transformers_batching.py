"""Peer: transformers' own continuous batching, in process. Runs in the peers' environment, prints one JSON line.

The same GGUF weights, dequantized on loading. Each group of prompts is submitted at once and every request generates
exactly `max_tokens`: tokens a second count from the submission until the last request is done. Loading and one warm-up
are not timed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any


def load(gguf: Path, dtype: str) -> tuple[Any, Any]:
    """The tokenizer, and the model with paged attention."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=getattr(torch, dtype), attn_implementation="paged|sdpa"
    )
    return tokenizer, model.eval()


def running(model: Any) -> Any:
    """The manager, for a `with`. The cache holds 6,144 tokens, enough for 32 requests: a larger one is slower on a CPU."""
    from transformers import ContinuousBatchingConfig, GenerationConfig

    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = ContinuousBatchingConfig(block_size=32, num_blocks=192, max_batch_tokens=512)
    return model.continuous_batching_context_manager(
        generation, continuous_batching_config=batching, warmup_requests=None
    )


def tokens_per_s(manager: Any, prompts: list[list[int]], max_tokens: int) -> float:
    """Generated tokens a second over a whole group, on a manager that runs already."""
    started_s = time.perf_counter()
    manager.add_requests(inputs=prompts, max_new_tokens=max_tokens)
    generated: list[int] = []
    while len(generated) < len(prompts):
        result = manager.get_result(timeout=1)
        if result is None and not manager.is_running():
            raise RuntimeError("The continuous batching loop ended before its requests did.")
        if result is not None and result.is_finished():
            generated.append(len(result.generated_tokens))
    seconds = time.perf_counter() - started_s
    if generated != [max_tokens] * len(prompts):
        raise RuntimeError(f"{len(prompts)} prompts should give {max_tokens} tokens each, but gave {generated}.")
    return sum(generated) / seconds


def main() -> None:
    """`python transformers_batching.py --gguf F --prompts F.json --max-tokens 64`; the file holds groups of texts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()

    groups: list[list[str]] = json.loads(arguments.prompts.read_text())
    tokenizer, model = load(arguments.gguf, arguments.dtype)
    with running(model) as manager:
        tokens_per_s(manager, [tokenizer("Warm up.").input_ids], 4)
        figures = [
            tokens_per_s(manager, [tokenizer(text).input_ids for text in group], arguments.max_tokens)
            for group in groups
        ]
    print(json.dumps({"tokens_per_s": figures}))


if __name__ == "__main__":
    main()
