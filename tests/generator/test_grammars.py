"""Bad words are kept out of any text, and nothing else is; checked with xgrammar itself over a token a byte."""

from functools import cache

import xgrammar
from hypothesis import given
from hypothesis import strategies as st

from generator.engines.grammars import grammar_without, last_line

LETTERS = 'ab\n"\\\x01\x7fé東🚀]'
words = st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=4)


@cache
def compiler() -> xgrammar.GrammarCompiler:
    tokens = [bytes([byte]) for byte in range(256)]
    return xgrammar.GrammarCompiler(xgrammar.TokenizerInfo([*tokens, b"<end>"], stop_token_ids=[256]), max_threads=1)


@given(bad=words, text=st.text(LETTERS + " c", max_size=12))
def test_a_text_is_allowed_when_no_bad_word_is_in_it(bad: list[str], text: str) -> None:
    matcher = xgrammar.GrammarMatcher(compiler().compile_grammar(grammar_without(bad)))
    allowed = matcher.accept_string(text) and matcher.accept_token(256)
    assert allowed == (not any(word in text for word in bad))


def test_the_reason_is_told_without_the_place_in_the_sources() -> None:
    error = RuntimeError("[19:15:20] /project/cpp/grammar_parser.cc:106: EBNF lexer error at line 1: no string\n\n")
    assert last_line(error) == "EBNF lexer error at line 1: no string"
    assert last_line(RuntimeError("plain words")) == "plain words"
    assert last_line(RuntimeError("")) == "no reason given"
