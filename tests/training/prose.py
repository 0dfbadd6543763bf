"""Texts that the rules for prose let pass, any number of them, each its own: sentences of a grammar over many words."""

import random
from collections.abc import Iterable
from pathlib import Path

from training.records import SUFFIX, Record, ShardWriter


def _words(text: str) -> list[str]:
    return text.split()


_NOUNS = _words("""
harbour mill bridge orchard library valley engine market garden tower museum river kitchen lantern village cellar workshop
meadow station theatre compass canal quarry archive courtyard ferry lighthouse pasture foundry chapel school bakery vineyard
reservoir tunnel forest printer weaver sailor baker teacher miner painter gardener surgeon
""")
_ADJECTIVES = _words("""
old quiet narrow bright wooden crowded distant careful patient heavy modern famous empty gentle broken early common northern
private regular simple strong warm public rapid severe useful western ordinary curious ancient steady
""")
_VERBS = _words("""
repaired visited described opened measured painted crossed closed guarded built restored entered admired rented inspected
cleaned sold bought photographed reached followed managed supplied divided replaced protected designed
""")
_CONJUNCTIONS = _words("before because while although until when since whereas")


def sentence(chosen: random.Random) -> str:
    """One of some hundred million, with no more than three words in a row that others have too."""
    subject, thing, place, other = chosen.sample(_NOUNS, 4)
    first, second = chosen.sample(_ADJECTIVES, 2)
    verb, again = chosen.sample(_VERBS, 2)
    year, then = chosen.randint(1500, 1999), chosen.choice(_CONJUNCTIONS)
    return chosen.choice(
        (
            f"In {year} the {first} {subject} {verb} a {second} {thing} near the {place}, {then} its {other} was {again}.",
            f"The {subject} of the {place} {verb} every {first} {thing} that {other}s had {again}.",
            f"Nobody {verb} the {first} {thing}, {then} {subject}s stood with {second} {other}s behind that {place}.",
            f"A {second} {subject} {verb} this {thing}, and to be {again} was the {first} {place} in {year}.",
            f"Some {subject}s {verb} their {thing} in {year}, {then} others {again} a {second} {place}.",
            f"What the {subject} {verb} was no {first} {thing} but {place}s {then} the {other} was {again}.",
        )
    )


def article(number: int, paragraphs: int = 5) -> str:
    """The text of this number, some 300 words in five paragraphs."""
    chosen = random.Random(number)
    return "\n\n".join(" ".join(sentence(chosen) for _ in range(4)) for _ in range(paragraphs))


def changed(text: str, number: int, share: float = 0.02) -> str:
    """The text with a share of its words replaced."""
    chosen = random.Random(number)
    words = text.split(" ")
    for place in chosen.sample(range(len(words)), max(1, int(len(words) * share))):
        words[place] = chosen.choice(_NOUNS)
    return " ".join(words)


def record(number: int, text: str, **metadata: object) -> Record:
    return Record(f"test/{number}", text, f"https://example.org/{number}", "CC0-1.0", "2020-01-02T03:04:05Z", metadata)


def write(folder: Path, texts: Iterable[str], files: int = 1) -> Path:
    """A corpus of the texts, spread over so many files."""
    folder.mkdir(parents=True, exist_ok=True)
    writers = [ShardWriter(folder / f"{number:05d}{SUFFIX}") for number in range(files)]
    for number, text in enumerate(texts):
        writers[number % files].write(record(number, text))
    for writer in writers:
        writer.finish()
    return folder
