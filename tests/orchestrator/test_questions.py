"""Sampling: the caller's settings over the template's."""

from orchestrator.questions import Sampling


def test_what_is_set_wins_even_when_it_is_nothing_much() -> None:
    defaults = Sampling(max_tokens=96, temperature=0.7, stop=("\n",), seed=3)
    merged = Sampling(temperature=0.0, seed=0).over(defaults)
    assert merged == Sampling(max_tokens=96, temperature=0.0, stop=("\n",), seed=0)
    assert Sampling(stop=("END",)).over(defaults).stop == ("END",)


def test_asking_for_length_lifts_the_defaults_that_end_early() -> None:
    merged = Sampling(min_tokens=1000).over(Sampling(max_tokens=96, stop=("\n",)))
    assert merged == Sampling(min_tokens=1000, max_tokens=1000)
