"""Peer: a bare tritonclient loop, one request a stream, on a server of the vLLM contract. Prints one JSON line.

Runs in an environment of its own (bench/peers-triton.txt). Reads what a client must to know the text, and nothing more.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any


async def complete(client: Any, model: str, text: str, tokens: int) -> str:
    """The text of one completion."""
    import numpy as np
    from tritonclient.grpc import InferInput  # pyright: ignore[reportMissingImports]

    def one(name: str, datatype: str, value: Any) -> Any:
        tensor = InferInput(name, [1], datatype)
        tensor.set_data_from_numpy(np.array([value], dtype=np.object_ if datatype == "BYTES" else np.bool_))
        return tensor

    sampling = {"max_tokens": tokens, "min_tokens": tokens, "temperature": 0.0}
    inputs = [
        one("text_input", "BYTES", text.encode()),
        one("stream", "BOOL", True),
        one("sampling_parameters", "BYTES", json.dumps(sampling).encode()),
    ]

    async def requests() -> Any:
        yield {"model_name": model, "inputs": inputs}

    pieces: list[bytes] = []
    async for result, error in client.stream_infer(requests()):
        if error is not None:
            raise error
        pieces.append(result.as_numpy("text_output")[0])
    return b"".join(pieces).decode()


async def measure(address: str, model: str, texts: list[str], tokens: int) -> float:
    """Tokens a second of all streams at once."""
    from tritonclient.grpc.aio import InferenceServerClient  # pyright: ignore[reportMissingImports]

    async with InferenceServerClient(address) as client:
        await client.is_server_ready()
        started_s = time.perf_counter()
        await asyncio.gather(*(complete(client, model, text, tokens) for text in texts))
        return tokens * len(texts) / (time.perf_counter() - started_s)


def main() -> None:
    """`python triton_streams.py --address HOST:PORT --model M --prompts F.json --max-tokens 64`; the file holds texts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=64)
    arguments = parser.parse_args()
    texts = json.loads(arguments.prompts.read_text())
    figure = asyncio.run(measure(arguments.address, arguments.model, texts, arguments.max_tokens))
    print(json.dumps({"tokens_per_s": figure}))


if __name__ == "__main__":
    main()
