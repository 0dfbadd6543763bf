"""What one replica of a language model does on GPUs, from the throughput that its engine's makers published.

A request of P prompt and C completion tokens takes a replica `a P + b C + c C (P + C / 2)` seconds at full load: reading
the prompt, writing the completion, and attending for each written token to all before it. The three unit costs are solved
from three published rows; tests/mesh/test_capacity.py compares the other rows. Knows no prices.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = (
    "NVIDIA, TensorRT-LLM 1.0, docs/source/performance/perf-overview.md: FP8 weights, output tokens/s at maximum load "
    "(github.com/NVIDIA/TensorRT-LLM at 00f37686)"
)
SOLVED_FROM = ((2048, 128), (128, 2048), (2048, 2048))
"""Prompt and completion tokens of the rows that the unit costs are solved from."""

_SHAPES = (
    (128, 128), (128, 2048), (128, 4096), (500, 2000), (1000, 1000), (1000, 2000), (2048, 128), (2048, 2048),
    (5000, 500), (20000, 2000),
)  # fmt: skip


@dataclass(frozen=True)
class Replica:
    """A model on the GPUs of one replica; `published` holds output tokens a second by (prompt, completion) tokens."""

    model: str
    gpu: str
    gpus: int
    published: Mapping[tuple[int, int], float]

    def unit_costs_s(self) -> tuple[float, float, float]:
        """Seconds of the replica for a prompt token, a completion token, and a pair of tokens that attend."""
        rows = [_terms(*shape) for shape in SOLVED_FROM]
        seconds = [completion / self.published[prompt, completion] for prompt, completion in SOLVED_FROM]
        whole = _determinant(rows)
        a, b, c = (_determinant(_with_column(rows, column, seconds)) / whole for column in range(3))
        return a, b, c

    def request_s(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Seconds of the replica that a request takes at full load."""
        terms = _terms(prompt_tokens, completion_tokens)
        return sum(cost * term for cost, term in zip(self.unit_costs_s(), terms, strict=True))


def _terms(prompt: float, completion: float) -> tuple[float, float, float]:
    return prompt, completion, completion * (prompt + completion / 2)


def _determinant(rows: list[tuple[float, float, float]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _with_column(
    rows: list[tuple[float, float, float]], column: int, values: list[float]
) -> list[tuple[float, float, float]]:
    """Cramer's rule: the rows with one column replaced."""
    replaced = [[*row[:column], value, *row[column + 1 :]] for row, value in zip(rows, values, strict=True)]
    return [(row[0], row[1], row[2]) for row in replaced]


def _replica(model: str, gpu: str, gpus: int, *tokens_per_s: float) -> Replica:
    return Replica(model, gpu, gpus, dict(zip(_SHAPES, tokens_per_s, strict=True)))


REPLICAS = (
    _replica("llama-8b", "h100", 1, 28312, 22714, 14325, 17660, 15220, 13899, 3450, 9305, 3459, 1351),
    _replica("llama-8b", "h200", 1, 27911, 26221, 18027, 20770, 17744, 16828, 3538, 12194, 3902, 1804),
    _replica("llama-70b", "h100", 2, 6378, 6651, 4199, 5222, 4205, 4146, 762, 3082, 898, 437),
    _replica("llama-70b", "h200", 1, 3803, 4336, 2872, 3666, 2909, 2994, 442, 2003, 566, 283),
    _replica("llama-405b", "h100", 8, 3627, 4340, 3116, 3994, 2919, 2895, 453, 2296, 610, 345),
    _replica("llama-405b", "h200", 8, 3814, 5348, 4741, 4724, 3330, 3722, 456, 2948, 650, 505),
)
"""Llama 3.1 8B, 3.3 70B and 3.1 405B. The published figure is that of the whole replica."""
MODELS = tuple(dict.fromkeys(replica.model for replica in REPLICAS))
GPUS = tuple(dict.fromkeys(replica.gpu for replica in REPLICAS))
