"""The transformers engine's choice of tokens, on scores made here: against the rules as they are written in the proto."""

from typing import Any

import numpy as np
import pytest

from generator.engines.base import EngineRequest
from generator.requests import Sampling

pytestmark = pytest.mark.slow  # imports torch and transformers

VOCABULARY, ENDS = 40, frozenset({1, 2})


class Chooser:
    """One request after another, each with its sampling, over scores that the test gives."""

    def __init__(self, *samplings: Sampling, prompt: tuple[int, ...] = (5, 6)) -> None:
        import torch
        from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState

        from generator.engines.token_choice import Choice, TokenChoice

        self.choice = TokenChoice(VOCABULARY)
        self.requests: list[Any] = []
        for index, sampling in enumerate(samplings):
            request = EngineRequest(index, prompt, 100, sampling)
            self.choice.watch(str(index), Choice(request, ENDS, (), torch.device("cpu")))
            self.requests.append(FutureRequestState(RequestState(str(index), [*prompt]), True, {}, 1))

    def step(self, scores: np.ndarray) -> list[int]:
        """A token a request; the library gives more rows than there are requests with a new token."""
        import torch

        rows = torch.tensor(np.vstack([np.tile(scores, (len(self.requests), 1)), scores * 0]), dtype=torch.float32)
        arguments = self.choice.prepare_tensor_args(self.requests)
        return self.choice(rows, arguments).argmax(-1)[: len(self.requests)].tolist()


def _scores(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, VOCABULARY)


def _probabilities(scores: np.ndarray, temperature: float) -> np.ndarray:
    powers = np.exp((scores - scores.max()) / temperature)
    return powers / powers.sum()


def _allowed(probabilities: np.ndarray, sampling: Sampling) -> np.ndarray:
    """By the proto: top_k, then the smallest set with top_p, then min_p."""
    order = np.argsort(-probabilities)
    if sampling.top_k:
        order = order[: sampling.top_k]
    kept = probabilities[order] / probabilities[order].sum()
    if sampling.top_p is not None:
        order = order[: int(np.searchsorted(np.cumsum(kept), sampling.top_p)) + 1]
    order = order[probabilities[order] >= (sampling.min_p or 0) * probabilities.max()]
    allowed = np.zeros(VOCABULARY)
    allowed[order] = probabilities[order] / probabilities[order].sum()
    return allowed


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.7),
        Sampling(temperature=2.0, top_k=5),
        Sampling(temperature=1.0, top_p=0.8),
        Sampling(temperature=1.5, min_p=0.2),
        Sampling(temperature=1.3, top_k=10, top_p=0.9, min_p=0.05),
    ],
)
def test_tokens_come_as_often_as_their_probabilities_say(sampling: Sampling) -> None:
    import torch

    torch.manual_seed(0)
    scores, draws = _scores(), 4000
    expected = _allowed(_probabilities(scores, sampling.temperature or 1.0), sampling)
    drawn = np.bincount(Chooser(*[sampling] * draws).step(scores), minlength=VOCABULARY) / draws
    assert not drawn[expected == 0].any()
    assert np.abs(drawn - expected).max() < 5 * np.sqrt(0.25 / draws)


def test_requests_in_one_step_keep_to_their_own_sampling() -> None:
    scores = _scores()
    best = int(scores.argmax())
    for seed in range(20):
        chosen = Chooser(Sampling(), Sampling(temperature=2.0, seed=seed), Sampling(temperature=2.0, top_k=1)).step(
            scores
        )
        assert (chosen[0], chosen[2]) == (best, best)


def test_a_seed_repeats_whoever_runs_beside_it() -> None:
    seeded, other = Sampling(temperature=2.0, seed=7), Sampling(temperature=2.0)
    alone, beside = Chooser(seeded), Chooser(other, seeded, other)
    steps = [_scores(step) for step in range(20)]
    assert [alone.step(scores)[0] for scores in steps] == [beside.step(scores)[1] for scores in steps]
    again = Chooser(Sampling(temperature=2.0, seed=8))
    assert [again.step(scores)[0] for scores in steps] != [Chooser(seeded).step(scores)[0] for scores in steps]


def test_penalties_are_what_the_proto_says() -> None:
    flat = np.full(VOCABULARY, 1.0)
    flat[5], flat[7], flat[8] = 1.9, 1.8, 1.5  # 5 is in the prompt
    assert Chooser(Sampling()).step(flat) == [5]
    assert Chooser(Sampling(repetition_penalty=1.2)).step(flat) == [7]  # 1.9 / 1.2 < 1.8
    presence, frequency = Chooser(Sampling(presence_penalty=0.35)), Chooser(Sampling(frequency_penalty=0.15))
    assert [presence.step(flat)[0] for _ in range(4)] == [5, 7, 5, 5]  # 1.55, once and for all; 1.45 for 7
    assert [frequency.step(flat)[0] for _ in range(4)] == [5, 7, 5, 7]  # 1.75, then 1.65, 1.60, 1.50
    assert Chooser(Sampling(presence_penalty=-1.0)).step(flat) == [5]


def test_no_end_before_min_tokens() -> None:
    scores = np.zeros(VOCABULARY)
    scores[1], scores[2], scores[9] = 9, 8, 7
    chooser = Chooser(Sampling(min_tokens=2))
    assert [chooser.step(scores)[0] for _ in range(3)] == [9, 9, 1]


def test_a_forgotten_request_gets_the_best_token() -> None:
    chooser = Chooser(Sampling(min_tokens=2))
    chooser.choice.forget("0")
    scores = np.zeros(VOCABULARY)
    scores[1] = 9
    assert chooser.step(scores) == [1]
