"""The section that a passage stands in: the chunks around it under the same headings, which may come with it as context."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from orchestrator.sources import Chunk, Passage

LONGEST_REACH = 10
"""Chunks before and after a hit that the retriever gives at most: of longer sections the part around the hit."""


def within_section(passage: Passage, neighbors: int) -> Passage:
    """The passage with the chunks of its section, and with its `neighbors` nearest ones in any case.

    Text without headings has no sections.
    """
    hit = passage.chunk

    def own(chunk: Chunk) -> bool:
        return bool(hit.headings) and chunk.headings == hit.headings

    def near(outwards: Sequence[Chunk]) -> Sequence[Chunk]:
        within = sum(abs(chunk.index - hit.index) <= neighbors for chunk in outwards)
        return outwards[: max(within, sum(1 for _ in takewhile(own, outwards)))]

    return replace(passage, before=tuple(reversed(near(passage.before[::-1]))), after=tuple(near(passage.after)))
