"""What the engines' grammars have in common: bad words are one, and a form that cannot be followed is refused.

Both engines follow grammars by xgrammar. It works on bytes, so bad words are kept out however the tokens cut the text.
"""

from collections.abc import Sequence

from generator.engines.base import Refused
from generator.requests import Guidance


def grammar_without(words: Sequence[str]) -> str:
    """EBNF, as xgrammar reads it, of every text that holds none of `words`; none of them may be empty."""
    excluded = ", ".join(f'"{"".join(map(_escaped, word))}"' for word in words)
    return f"root ::= TagDispatch(loop_after_dispatch=false, excludes=({excluded}))"


def _escaped(character: str) -> str:
    return character if character.isascii() and character.isalnum() else f"\\U{ord(character):08x}"


def refused_form(request_id: int, guidance: Guidance, error: Exception) -> Refused:
    """Of a form that xgrammar cannot compile."""
    field = f"sampling.guidance.{guidance.kind}"
    return Refused(request_id, f"{field} is not one that can be followed: {last_line(error)}", field)


def last_line(error: Exception) -> str:
    """What a C++ error says, without where in its sources it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1] if lines else "no reason given"
    return said.rpartition(".cc:")[2].partition(": ")[2] if ".cc:" in said else said
