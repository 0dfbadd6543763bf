"""Group commit: items that come together go together, and one bad item harms no other."""

import asyncio
from collections.abc import Sequence

import pytest

from ingest.grouping import Grouped


async def test_what_comes_meanwhile_goes_together() -> None:
    calls: list[list[int]] = []
    gate, called = asyncio.Event(), asyncio.Event()

    async def double(items: Sequence[int]) -> list[int]:
        calls.append(list(items))
        called.set()
        await gate.wait()
        return [2 * item for item in items]

    grouped = Grouped(double, max_items=10)
    first = asyncio.create_task(grouped(1))
    await called.wait()
    others = [asyncio.create_task(grouped(number)) for number in range(2, 14)]
    await asyncio.sleep(0)
    gate.set()

    assert await asyncio.gather(first, *others) == [2 * number for number in range(1, 14)]
    assert [len(call) for call in calls] == [1, 10, 2]


async def test_a_bad_item_fails_alone() -> None:
    async def check(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise ValueError("three")
        return list(items)

    grouped = Grouped(check, max_items=10)
    results = await asyncio.gather(*(grouped(number) for number in range(5)), return_exceptions=True)

    assert [result for result in results if not isinstance(result, ValueError)] == [0, 1, 2, 4]
    with pytest.raises(ValueError, match="three"):
        await grouped(3)
