"""Tables and headings of chunks: tables whole or by rows with their header beside, headings of every kind of text."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunking import Chunker, ChunkSize, Cut
from ingest.headings import CodeOutline, Outline, UnderlinedOutline
from ingest.parsers.pdf_headings import with_headings
from ingest.parsers.pdf_layout import Bookmark, Word
from ingest.parsers.pdf_tables import with_tables
from ingest.tokens import TokenCounter

SIZE = ChunkSize(chunk_tokens=48, overlap_tokens=0, window_tokens=64)
HEADER = "| name | score |"


def table(rows: int) -> str:
    return f"{HEADER}\n| --- | --- |\n" + "".join(f"| the {number} | {number} |\n" for number in range(rows))


def cut(text: str, count: TokenCounter, outline: Outline | None = None, *, block: int = 0) -> list[Cut]:
    blocks = [text[at : at + block] for at in range(0, len(text), block)] if block else [text]
    return list(Chunker(SIZE, count, outline=outline or Outline(), tables=True).cut(blocks))


def test_a_small_table_stays_whole(count_tokens: TokenCounter) -> None:
    text = "the and of " * 20 + "\n\n" + table(2) + "\n" + "the and of " * 20

    holding = [piece for piece in cut(text, count_tokens) if piece.table]

    assert len(holding) == 1
    assert table(2).strip() in text[holding[0].start : holding[0].end]
    assert holding[0].table_header == ""


def test_a_large_table_is_cut_by_rows_with_its_header_beside(count_tokens: TokenCounter) -> None:
    text = f"# Top\n\n{table(40)}\n# Next\n\n" + table(1)

    cuts = cut(text, count_tokens)

    first = [piece for piece in cuts if piece.table == 1]
    assert len(first) > 3
    for piece in first[1:]:
        rows = text[piece.start : piece.end]
        assert piece.table_header == HEADER
        assert all(row.startswith("| the ") and row.endswith(" |") for row in rows.splitlines())
        assert count_tokens(rows) + count_tokens(HEADER) <= SIZE.chunk_tokens
        assert piece.headings == ("Top",)
    assert [piece.table_header for piece in cuts if piece.table == 2] == [""]


def test_a_table_goes_on_in_the_next_block(count_tokens: TokenCounter) -> None:
    text = table(40)
    line_end = text.index("\n", 300) + 1

    cuts = list(Chunker(SIZE, count_tokens, outline=Outline(), tables=True).cut([text[:line_end], text[line_end:]]))

    assert {piece.table for piece in cuts} == {1}
    assert {piece.table_header for piece in cuts[1:]} == {HEADER}


@settings(deadline=None, max_examples=80)
@given(
    parts=st.lists(
        st.sampled_from(
            [table(1), table(9), "| no | table |\n", "word " * 30, "\n", "## A\n\n", "| " + "x" * 900 + " |\n", " \n"]
        ),
        max_size=12,
    ),
    block=st.sampled_from([0, 64]),
)
def test_text_with_tables_is_cut_without_loss(count_tokens: TokenCounter, parts: list[str], block: int) -> None:
    text = "".join(parts)

    end = 0
    for piece in cut(text, count_tokens, block=block):
        assert end <= piece.start < piece.end <= len(text)
        assert text[end : piece.start].strip() == ""
        end = piece.end
    assert text[end:].strip() == ""


def test_code_is_cut_along_functions(count_tokens: TokenCounter) -> None:
    body = "    value = value + 1\n" * 9
    methods = f"    @cached\n    def read(self):\n{body}\n    def write(self):\n{body}"
    text = f"import os\n\n\nclass Store:\n{methods}\n\n# Helps.\ndef helper():\n{body}"

    cuts = cut(text, count_tokens, CodeOutline())

    starts = {text[piece.start : piece.end].split("\n")[0]: piece.headings for piece in cuts}
    assert starts["@cached"] == ("Store",)
    assert starts["def write(self):"] == ("Store",)
    assert starts["# Helps."] == ()


def test_other_languages_have_functions_too() -> None:
    methods = "func (s *Store) Get(key string) int {\n}\n\nstatic int add(int a, int b) {\n}\n\n"
    text = f"package a\n\n{methods}export async function go() {{\n}}\n"

    paths = [section.path for section in CodeOutline().sections(text)]

    assert paths == [(), ("Get",), ("add",), ("go",)]


def test_underlined_titles_are_headings() -> None:
    text = "Top\n***\n\ntext\n\n1.1. Part\n=========\n\nmore\n\nNo title\nof a paragraph\n-----\n\n"
    text += "rest\n\n1.2. Last\n=========\n"

    assert [section.path for section in UnderlinedOutline().sections(text)] == [
        ("Top",), ("Top", "1.1. Part"), ("Top", "1.2. Last"),
    ]  # fmt: skip


def test_bookmarks_mark_the_lines_that_they_name() -> None:
    text = "CHAPTER ONE\nABOUT THIS\n1.2 Scope of it\nwords 1.2 Scope of it\n# apt update\n"

    marked = with_headings(
        text, [Bookmark(1, "About this", 0), Bookmark(2, "Scope of it", 0), Bookmark(2, "Not there", 0)]
    )

    assert marked == "CHAPTER ONE\n## ABOUT THIS\n### 1.2 Scope of it\nwords 1.2 Scope of it\n# apt update\n"


def words_of(rows: list[list[tuple[str, int]]]) -> list[Word]:
    return [
        Word(text, left, left + 5 * len(text), 12 * number, 10)
        for number, row in enumerate(rows)
        for text, left in row
    ]  # fmt: skip


def test_aligned_words_of_a_page_are_a_table() -> None:
    rows = [[("Item", 0), ("2022", 200), ("2021", 300)]] + [
        [(f"Row{number}", 0), ("cost", 30), (f"{number}00", 200), ("$", 290), (f"{number}50", 300)]
        for number in range(1, 4)
    ]
    text = "Before\nItem 2022 2021\nRow1 cost 100 $ 150\nRow2 cost 200 $ 250\nRow3 cost 300 $ 350\nAfter"

    assert with_tables(text, words_of(rows)) == (
        "Before\n\n| Item | 2022 | 2021 |\n| --- | --- | --- |\n| Row1 cost | 100 | $ 150 |\n| Row2 cost | 200 | $ 250 |\n"
        "| Row3 cost | 300 | $ 350 |\n\nAfter"
    )


def test_columns_of_prose_and_contents_are_no_tables() -> None:
    prose = [[("the quick brown fox jumps over", 0), ("the lazy dog and runs away from", 300)] for _ in range(6)]
    contents = [[(f"1.{number}", 0), ("Scope . . . . .", 60), (str(number), 300)] for number in range(6)]
    for rows in (prose, contents):
        text = "\n".join(" ".join(word for word, _ in row) for row in rows)
        assert with_tables(text, words_of(rows)) == text
