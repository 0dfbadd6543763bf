"""Token ids to text as they come: no half UTF-8 character, no lost space; the pieces add up to the whole decoding.

A token alone does not say its text: a byte-level token may be part of a character, and a metaspace token starts with a
space only when it is not the first. So a window of tokens is decoded with and without the new ones, and the difference is
the new text, once it does not end in half a character (the method of text-generation-inference and vLLM).
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

_HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"
_UNSETTLED_CHARACTERS = 32
"""How many characters at the end may still change when they end in half a character; what is before them is given out, so
that a model that produces bytes that will never be text does not look dead. Far more than half a character needs: with byte
fallback (Llama 2) it turns the whole characters before it into replacement characters too, one a token.
"""


class Detokenizer:
    """The text of one completion; special tokens are left out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._settled_tokens = 0  # tokens at the window's start whose text is complete and given out
        self._given_characters = 0  # of the window's text

    def feed(self, tokens: Sequence[int]) -> str:
        """The text that is complete with these tokens; may be empty."""
        self._window.extend(tokens)
        text = self._decode(self._window)
        if text.endswith(_HALF_CHARACTER):
            settled = max(self._given_characters, len(text) - _UNSETTLED_CHARACTERS - self._settled_tokens)
            new, self._given_characters = text[self._given_characters : settled], settled
            return new
        new = text[self._given_characters :]
        if new:  # tokens without text, special ones, must not become the window that shows whether a space precedes
            self._window = self._window[self._settled_tokens :]
            self._settled_tokens = len(self._window)
            self._given_characters = len(self._decode(self._window))
        return new

    def flush(self) -> str:
        """What is left when no token follows: half a character comes out as the replacement character."""
        text = self._decode(self._window)
        new, self._given_characters = text[self._given_characters :], len(text)
        return new

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)
