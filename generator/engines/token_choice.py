"""Chooses the next token of each request in transformers' continuous batching, by that request's own sampling.

The library has processors a request for temperature, top-k and top-p only. This one takes the place of all of them: it
turns a step's scores into choices, of which the library then takes the best. It needs the tokens that came before, so the
library must run its steps one after the other, without CUDA graphs.
"""

from collections.abc import Sequence

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor
from transformers.generation.continuous_batching.requests import FutureRequestState

from generator.engines.base import EngineRequest
from generator.engines.forms import Form, scratch

_NEVER = float("-inf")
_COLDEST = 1e-5
"""A lower temperature would make scores infinite; at this one only equal tokens are chosen among."""
_LIKELY_TOKENS = 1024
"""A nucleus lies nearly always within so many of the best tokens, and finding those costs a tenth of sorting all."""


class Choice:
    """One request: what its sampling asks of the scores, and what was chosen for it before."""

    def __init__(
        self, request: EngineRequest, ends: frozenset[int], forms: Sequence[Form], device: torch.device
    ) -> None:
        self.sampling = request.sampling
        self.generator: torch.Generator | None = None
        if self.sampling.temperature and self.sampling.seed is not None:
            self.generator = torch.Generator(device).manual_seed(self.sampling.seed)
        self._ends = torch.tensor(sorted(ends), dtype=torch.long, device=device)
        self._forms = forms
        self._occurred = set(request.prompt)
        self._counts: dict[int, int] = {}
        self._generated = 0
        penalties = (self.sampling.repetition_penalty, self.sampling.presence_penalty, self.sampling.frequency_penalty)
        self.adjusts = bool(forms or self.sampling.min_tokens or any(value is not None for value in penalties))

    def adjust(self, scores: torch.Tensor, allowed: torch.Tensor) -> None:
        """Penalties, and minus infinity for what may not come now, in `scores` (V,). `allowed` is scratch space."""
        self._penalize(scores)
        if self._generated < (self.sampling.min_tokens or 0):
            scores[self._ends] = _NEVER
        for form in self._forms:
            form.forbid(scores, allowed)
        if self._forms and bool(scores.max() == _NEVER):  # the form is full before min_tokens, or two leave nothing
            scores[self._ends] = 0.0

    def accept(self, token: int) -> None:
        """Remembers what was chosen."""
        self._generated += 1
        self._occurred.add(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        for form in self._forms:
            form.accept(token)

    def _penalize(self, scores: torch.Tensor) -> None:
        sampling, device = self.sampling, scores.device
        if sampling.repetition_penalty is not None:
            tokens = torch.tensor(list(self._occurred), device=device)
            old, penalty = scores[tokens], sampling.repetition_penalty
            scores[tokens] = torch.where(old > 0, old / penalty, old * penalty)
        presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
        if self._counts and (presence or frequency):
            counts = torch.tensor(list(self._counts.values()), device=device, dtype=scores.dtype)
            scores[torch.tensor(list(self._counts), device=device)] -= presence + frequency * counts


class TokenChoice(ContinuousBatchingLogitsProcessor):
    """See the module. Requests are watched from one thread and chosen for in another."""

    def __init__(self, vocabulary: int) -> None:
        self.supported_kwargs = {}  # each request's sampling is here already
        self.ignored_kwargs = ()
        self._allowed = scratch(vocabulary)
        self._choices: dict[str, Choice] = {}
        self._rows: list[Choice | None] = []

    def watch(self, request_id: str, choice: Choice) -> None:
        """Before the request is added: how to choose for it. Without it, and once forgotten, the best token is chosen."""
        self._choices[request_id] = choice

    def forget(self, request_id: str) -> None:
        """After the request has ended."""
        self._choices.pop(request_id, None)

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """The library keeps a number a request for each processor; this one needs none."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[FutureRequestState]) -> torch.Tensor:
        """Before the forward pass: which requests the first rows of the scores will belong to."""
        self._rows = [self._choices.get(request.state.request_id) for request in requests_with_new_token]
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """Scores (B, V), of which rows beyond the requests with a new token mean nothing: 0 for the chosen token."""
        chosen = self._choose(scores[: len(self._rows)])
        scores.fill_(_NEVER)
        scores[: len(self._rows)].scatter_(1, chosen[:, None], 0.0)
        return scores

    def _choose(self, scores: torch.Tensor) -> torch.Tensor:
        for row, choice in enumerate(self._rows):
            if choice is not None and choice.adjusts:
                choice.adjust(scores[row], self._allowed)
        chosen = scores.argmax(-1)
        sampled = [(row, choice) for row, choice in enumerate(self._rows) if choice and choice.sampling.temperature]
        if sampled:
            rows = [row for row, _ in sampled]
            chosen[rows] = _draw(scores[rows], [choice for _, choice in sampled])
        if any(choice and choice.adjusts for choice in self._rows):
            for choice, token in zip(self._rows, chosen.tolist(), strict=True):
                if choice and choice.adjusts:
                    choice.accept(token)
        return chosen


def _draw(scores: torch.Tensor, choices: Sequence[Choice]) -> torch.Tensor:
    """A token a row, of (B, V), with the probabilities that the requests' sampling makes of the scores."""
    column = lambda values: torch.tensor(values, device=scores.device, dtype=scores.dtype)[:, None]  # noqa: E731
    sampling = [choice.sampling for choice in choices]
    logits = scores / column([max(each.temperature or 0.0, _COLDEST) for each in sampling])
    if any(each.top_k for each in sampling):
        logits = _keep_best(logits, [each.top_k or 0 for each in sampling])
    if any(each.top_p is not None and each.top_p < 1 for each in sampling):
        logits = _keep_nucleus(logits, column([1.0 if each.top_p is None else each.top_p for each in sampling]))
    if any(each.min_p for each in sampling):
        floor = logits.amax(-1, keepdim=True) + column([each.min_p or 0.0 for each in sampling]).log()
        logits = logits.masked_fill(logits < floor, _NEVER)
    noise = torch.empty_like(logits).exponential_()
    for row, choice in enumerate(choices):
        if choice.generator is not None:
            noise[row].exponential_(generator=choice.generator)
    return (logits.softmax(-1) / noise).argmax(
        -1
    )  # the first of exponential clocks to ring: as multinomial, but by row


def _keep_best(logits: torch.Tensor, top_k: Sequence[int]) -> torch.Tensor:
    """Minus infinity for all but the best `top_k` of each row; 0 keeps all."""
    vocabulary = logits.size(-1)
    limits = torch.tensor([min(k or vocabulary, vocabulary) for k in top_k], device=logits.device)
    most = max(min(k, vocabulary) for k in top_k)
    best = logits.topk(most).values
    floor = best.gather(-1, limits.clamp(max=most)[:, None] - 1)
    floor[limits == vocabulary] = _NEVER
    return logits.masked_fill(logits < floor, _NEVER)


def _keep_nucleus(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Minus infinity for all but the fewest tokens of each row that have `top_p` (B, 1) of the probability; 1 keeps all."""
    total = logits.logsumexp(-1, keepdim=True)
    for count in (_LIKELY_TOKENS, logits.size(-1)):
        best = logits.topk(min(count, logits.size(-1))).values
        probabilities = (best - total).exp()
        reached = probabilities.cumsum(-1)
        if bool(((reached[:, -1:] >= top_p) | (top_p >= 1)).all()):
            break
    floor = best.masked_fill(reached - probabilities >= top_p, float("inf")).amin(-1, keepdim=True)
    return logits.masked_fill((logits < floor) & (top_p < 1), _NEVER)
