"""Numbers that a statement gives to the wrong name."""

import pytest

from orchestrator.number_pairs import mixes_up

PER_DIEM = "The daily allowance in Germany is 28 euros; in Switzerland it is 64 francs."
HEIGHTS = "Mont Blanc rises to 4,806 m, and the Matterhorn to 4,478 m."


@pytest.mark.parametrize(
    ("statement", "quote"),
    [
        ("The daily allowance in Switzerland is 28 euros; in Germany it is 64 francs.", PER_DIEM),
        ("In Switzerland it is 28.", PER_DIEM),
        ("The Matterhorn is 4,806 m high.", HEIGHTS),
        ("Die Schweiz zahlt 28 Euro, Deutschland 64.", "Deutschland zahlt 28 Euro und die Schweiz 64."),
    ],
)
def test_a_number_of_another_name_is_seen(statement: str, quote: str) -> None:
    assert mixes_up(statement, quote)


@pytest.mark.parametrize(
    ("statement", "quote"),
    [
        (PER_DIEM, PER_DIEM),
        ("It is 64 francs in Switzerland.", PER_DIEM),
        ("The allowance is 28 euros.", PER_DIEM),  # no name
        ("Employees in Germany get 28 euros a day.", PER_DIEM),  # a name that the quote does not have
        ("Austria pays 28 euros.", PER_DIEM),  # nothing is told of Austria
        (
            "Normandy was named in the 10th and 11th centuries.",
            "In the 10th and 11th centuries the Normans named Normandy.",
        ),
        ("Tesla died in 1943.", "Tesla was born in 1856. Tesla died in 1943."),
        (
            "Broncos won 24-10 in Super Bowl 50.",
            "The Broncos defeated the Panthers 24-10 to earn their title at Super Bowl 50.",
        ),
    ],
)
def test_what_may_be_true_is_not(statement: str, quote: str) -> None:
    assert not mixes_up(statement, quote)
