"""Text files: spans read through the index are the text's, and blocks joined are the text."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import texts
from ingest.places import pages
from ingest.texts import TextIndex, decode_range, index_text, read_blocks

PARTS = st.lists(st.sampled_from(["a" * 1500, "é", "漢字" * 900, "🙂" * 1100, "\r\n", "\n\n", " "]), max_size=20)
SLOW = [HealthCheck.function_scoped_fixture]


@settings(deadline=None, max_examples=80, suppress_health_check=SLOW)
@given(text=PARTS.map("".join), data=st.data())
def test_any_span_is_read_through_the_index(tmp_path: Path, text: str, data: st.DataObject) -> None:
    path = tmp_path / "text"
    path.write_bytes(text.encode())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))

    index = TextIndex.from_bytes(index_text(path, pages([0, 10])).to_bytes())
    first, last, skipped = index.byte_range(start, end)

    assert (index.length, index.size_bytes) == (len(text), len(text.encode()))
    assert decode_range(text.encode()[first:last], skipped, end - start) == text[start:end]


def test_at_the_end_of_a_text_that_ends_where_a_stride_does_nothing_stands(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("é" * 2 * texts.STRIDE_CHARACTERS)
    end = 2 * texts.STRIDE_CHARACTERS

    first, last, skipped = index_text(path, []).byte_range(end, end)

    assert decode_range(path.read_bytes()[first:last], skipped, 0) == ""


@settings(deadline=None, max_examples=40, suppress_health_check=SLOW)
@given(text=PARTS.map("".join))
def test_blocks_joined_are_the_text(tmp_path: Path, text: str) -> None:
    path = tmp_path / "text"
    path.write_bytes((text * 10).encode())

    blocks = list(read_blocks(path))

    assert "".join(blocks) == text * 10
    assert all(0 < len(block) <= texts.BLOCK_CHARACTERS for block in blocks)


def test_pages_are_found_by_character() -> None:
    index = TextIndex.of_ascii(100)
    assert index.page(5) == 0
    paged = TextIndex(100, 100, index.byte_offsets, pages([0, 40, 80]))
    assert [paged.page(at) for at in (0, 39, 40, 99)] == [1, 1, 2, 3]
