"""Chunks: their spans are exact, they fit, they lose nothing, and headings are the ones above them."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunking import MAX_CHUNK_CHARACTERS, Chunker, ChunkSize, Cut
from ingest.headings import Outline
from ingest.tokens import TokenCounter

ALPHABET = st.sampled_from(
    [*"abcdefgh .,!?-#`|*", "\n", "\r\n", "\n\n", "\t", "é", "漢", "。", "🙂", "\u0301", "\u2028", " ", "the "]
)
TEXTS = st.one_of(
    st.text(max_size=300),
    st.lists(ALPHABET, max_size=400).map("".join),
    st.integers(1, 900).map("x".__mul__),
    st.lists(
        st.sampled_from(["# One\n", "## Two\n\n", "### Three\n", "word " * 30, "```\n# no\n```\n", "\n"]), max_size=20
    ).map("".join),
)
SIZE = ChunkSize(chunk_tokens=32, overlap_tokens=0, window_tokens=64)


def cut(text: str, count: TokenCounter, *, size: ChunkSize = SIZE, markdown: bool = True, block: int = 0) -> list[Cut]:
    blocks: Iterable[str] = [text[at : at + block] for at in range(0, len(text), block)] if block else [text]
    return list(Chunker(size, count, outline=Outline() if markdown else None, tables=markdown).cut(blocks))


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, markdown=st.booleans(), block=st.sampled_from([0, 50]))
def test_chunks_are_the_text_in_order_without_loss(
    count_tokens: TokenCounter, text: str, markdown: bool, block: int
) -> None:
    cuts = cut(text, count_tokens, markdown=markdown, block=block)

    end = 0
    for piece in cuts:
        assert end <= piece.start < piece.end <= len(text)
        assert text[end : piece.start].strip() == ""
        assert text[piece.start : piece.end] == text[piece.start : piece.end].strip()
        end = piece.end
    assert text[end:].strip() == ""


@settings(deadline=None, max_examples=100)
@given(text=TEXTS)
def test_chunks_fit_into_the_window(count_tokens: TokenCounter, text: str) -> None:
    for piece in cut(text, count_tokens, markdown=False):
        assert count_tokens(text[piece.start : piece.end]) <= SIZE.chunk_tokens


@settings(deadline=None, max_examples=60)
@given(text=TEXTS, overlap=st.integers(1, 16))
def test_overlap_repeats_the_end_of_the_chunk_before(count_tokens: TokenCounter, text: str, overlap: int) -> None:
    size = ChunkSize(32, overlap, 64)
    cuts = cut(text, count_tokens, size=size, markdown=False)

    for before, after in pairwise(cuts):
        assert before.start < after.start
        assert count_tokens(text[after.start : before.end]) <= overlap
    for piece in cuts:
        assert count_tokens(text[piece.start : piece.end]) <= size.chunk_tokens


def test_a_chunk_never_exceeds_the_character_limit(count_tokens: TokenCounter) -> None:
    text = ("." + " " * 200) * 500

    cuts = cut(text, count_tokens, size=ChunkSize(240, 0, 256), markdown=False)

    assert len(cuts) > 1
    assert max(piece.end - piece.start for piece in cuts) <= MAX_CHUNK_CHARACTERS


def test_small_sections_share_a_chunk_and_large_ones_stand_alone(count_tokens: TokenCounter) -> None:
    body = "the and of " * 12
    text = f"# Top\n\n## A\n\nthe\n\n## B\n\nof\n\n## Long\n\n{body}\n\n{body}"

    cuts = cut(text, count_tokens)

    shown = [(text[piece.start : piece.end].split("\n")[0], piece.headings) for piece in cuts]
    assert shown[0] == ("# Top", ())
    assert shown[1] == ("## Long", ("Top",))
    assert all(headings == ("Top", "Long") for _, headings in shown[2:])
    assert len(shown) > 2


def test_headings_in_code_are_text(count_tokens: TokenCounter) -> None:
    text = "# Real\n\n```\n# comment\n```\n\n" + "the and of " * 30

    assert {piece.headings for piece in cut(text, count_tokens)} <= {(), ("Real",)}


def test_plain_text_has_no_headings(count_tokens: TokenCounter) -> None:
    assert {piece.headings for piece in cut("# not a heading\n\n" + "word " * 200, count_tokens, markdown=False)} == {
        ()
    }


@pytest.mark.parametrize("text", ["", "   ", "\n\n\t"])
def test_nothing_gives_no_chunks(count_tokens: TokenCounter, text: str) -> None:
    assert cut(text, count_tokens) == []


@settings(deadline=None, max_examples=60)
@given(words=st.lists(st.text("abcdef.,-", min_size=1, max_size=20), max_size=60))
def test_counting_by_word_is_what_the_tokenizer_says(count_tokens: TokenCounter, words: list[str]) -> None:
    tokenizer = count_tokens._words._tokenizer
    text = " ".join(words)

    assert count_tokens(text) == len(tokenizer.encode(text, add_special_tokens=False).ids)
