"""Killed with -9 at random, by another seed in each run: no document is lost, doubled or left over."""

import asyncio
import random

import pytest

from bench import durability

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


def test_every_document_is_live_exactly_once_whatever_is_killed() -> None:
    seed = random.randrange(2**32)

    outcome = asyncio.run(durability.measure(durability.QUICK_DOCUMENTS, durability.QUICK_KILLS, seed))

    assert sum(outcome.kills.values()) == durability.QUICK_KILLS
    assert (outcome.lost, outcome.doubled, outcome.left_over) == (0, 0, 0), f"seed {seed}, kills {outcome.kills}"
    assert outcome.chunks >= durability.QUICK_DOCUMENTS
    assert outcome.begun >= outcome.embedded >= outcome.chunks
