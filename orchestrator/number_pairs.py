"""Tells whether a statement gives a number to another name than its source does: what small models mix up when they copy.

"Germany 28 euros, Switzerland 64" and "Germany 64 euros, Switzerland 28" have all their words in common. Only what is certain
counts: the source must tell another number of that name, and another name of that number, each within one clause.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.words import is_stop_word

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_CLAUSE_END = re.compile(r"[;:!?\n]|[.,](?=\s|$)|\b(?:and|while|whereas|but|und|während|aber)\b")
_NAME = re.compile(r"\b[^\W\d_a-zß-öø-ÿ][^\W_]+\b")


@dataclass(frozen=True)
class _Clause:
    names: frozenset[str]
    numbers: frozenset[str]


def mixes_up(statement: str, quote: str) -> bool:
    """Whether some number of the statement belongs to another of the quote's names."""
    told = list(_clauses(quote))
    return any(
        _tells_another_number(name, number, told) and _tells_another_name(name, number, told)
        for clause in _clauses(statement)
        for name in clause.names
        for number in clause.numbers
    )


def _tells_another_number(name: str, number: str, told: list[_Clause]) -> bool:
    numbers = [clause.numbers for clause in told if name in clause.names and clause.numbers]
    return bool(numbers) and all(number not in each for each in numbers)


def _tells_another_name(name: str, number: str, told: list[_Clause]) -> bool:
    names = [clause.names for clause in told if number in clause.numbers and clause.names]
    return bool(names) and all(name not in each for each in names)


def _clauses(text: str) -> Iterator[_Clause]:
    for clause in _CLAUSE_END.split(text):
        names = (name for name in _NAME.findall(clause) if not is_stop_word(name))
        yield _Clause(frozenset(names), frozenset(NUMBER.findall(clause)))
