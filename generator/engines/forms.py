"""Keeps completions to a form in the transformers engine: grammars by xgrammar, the library that openvino-genai uses too."""

import torch
import xgrammar
from transformers import PreTrainedTokenizerFast

from generator.engines.base import EngineRequest, Refused
from generator.engines.grammars import grammar_without, refused_form
from generator.requests import Guidance

_CACHE_BYTES = 64_000_000


class Forms:
    """Compiles the forms of requests; what was compiled lately is kept."""

    def __init__(self, tokenizer: str, vocabulary: int, stop_token_ids: frozenset[int]) -> None:
        self._stop_token_ids = sorted(stop_token_ids)
        tokens = xgrammar.TokenizerInfo.from_huggingface(
            PreTrainedTokenizerFast(tokenizer_file=tokenizer),
            vocab_size=vocabulary,
            stop_token_ids=self._stop_token_ids or None,
        )
        self._compiler = xgrammar.GrammarCompiler(tokens, max_threads=1, cache_limit_bytes=_CACHE_BYTES)

    def of(self, request: EngineRequest) -> "list[Form] | Refused":
        """The forms that a request's completion must have, or why one of them cannot be followed."""
        forms: list[Form] = []
        if words := request.sampling.bad_words:
            forms.append(self._form(Guidance("grammar", grammar_without(words))))
        if guidance := request.sampling.guidance:
            try:
                forms.append(self._form(guidance))
            except (RuntimeError, ValueError) as error:
                return refused_form(request.id, guidance, error)
        return forms

    def _form(self, guidance: Guidance) -> "Form":
        if guidance.kind == "json_schema":
            compiled = self._compiler.compile_json_schema(guidance.source)
        elif guidance.kind == "regex":
            compiled = self._compiler.compile_regex(guidance.source)
        else:
            compiled = self._compiler.compile_grammar(guidance.source)
        return Form(xgrammar.GrammarMatcher(compiled, override_stop_tokens=self._stop_token_ids or None))


class Form:
    """The form of one completion, and how far it is filled."""

    def __init__(self, matcher: xgrammar.GrammarMatcher) -> None:
        self._matcher = matcher

    def forbid(self, scores: torch.Tensor, allowed: torch.Tensor) -> None:
        """Gives every token that cannot come next a score of minus infinity. `scores` (V,); `allowed` is scratch space."""
        if self._matcher.is_terminated():
            return
        self._matcher.fill_next_token_bitmask(allowed)
        words = allowed[0].to(scores.device)  # 32 tokens in each
        bits = words[:, None].bitwise_right_shift(torch.arange(32, device=words.device, dtype=words.dtype)) & 1
        scores.masked_fill_(bits.view(-1)[: scores.numel()] == 0, float("-inf"))

    def accept(self, token: int) -> None:
        """Goes on by a token that was chosen."""
        if not self._matcher.is_terminated():
            self._matcher.accept_token(token)


def scratch(vocabulary: int) -> torch.Tensor:
    """Space for `Form.forbid`."""
    return xgrammar.allocate_token_bitmask(1, vocabulary)
