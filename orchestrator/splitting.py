"""Questions that need two facts: how they are told, and what is searched for once the first fact is found.

"Which post was held by the woman who played Corliss Archer?" finds who played her; the second search then looks for that name
and for what of the question the first passage leaves open. Both lists are merged in turns, so that each search has its best
passages before the model. Rules of words, no model: they cost microseconds, and the second search is all that is added.
The idea of asking again with what was found is that of multi-hop retrieval (Xiong et al. 2021; Qi et al. 2019).
"""

import re
from collections import deque
from collections.abc import Sequence
from enum import StrEnum

from orchestrator.sources import Passage
from orchestrator.words import stems

MAX_NAMES = 5
"""Names of the first passage that are searched for: its first ones are mostly what it is about."""

_WORD = re.compile(r"[^\W_][\w'’.&–-]*")
_ASKS = re.compile(r"\b(?:what|who|whom|whose|which|where|when|why|how)\b", re.I)
_RELATES = re.compile(r"\bthat (?:is|was|are|were|has|have|had|\w+(?:s|ed))\b", re.I)
_ASKS_LAST = re.compile(
    r"^(?!(?:what|who|whom|whose|which|where|when|why|how|in|on|at|by|to|for|from|of|with|under)\b).*\b(?:what|which|who|whom|whose)\b",
    re.I | re.S,
)
_COMPARES = re.compile(
    r"\b(?:both|same|share|either|neither|more|older|younger|earlier|later|larger|longer|taller|higher|first)\b", re.I
)
_YES_OR_NO = re.compile(r"(?:are|were|is|was|do|does|did|have|has)\b", re.I)
_ENDS_SENTENCE = re.compile(r"\w{3}\.$")
"""A shorter word with a full stop is an initial or a title: `J.`, `St.`"""
_SHORTEST = 2
_CONNECTOR_LIST = "of the de la du von van der des"
_CONNECTORS = frozenset(_CONNECTOR_LIST.split())
_NO_NAME_LIST = (
    "who what when where which why how were was are is did do does in the a an of whose whom according at on for by from both "
    "and or has have had can could to this that it its he she they his her their there these those as with but"
)
_NO_NAMES = frozenset(_NO_NAME_LIST.split())
"""Words that begin sentences with a capital."""


class Split(StrEnum):
    """Which questions are split."""

    NEVER = "never"
    LIKELY = "likely"
    """Those whose words say that they need two facts."""
    ALWAYS = "always"
    """Each of which the best passage leaves some words open."""

    def applies(self, question: str) -> bool:
        """Whether a question is to be split, as far as its own words tell."""
        return self is Split.ALWAYS or (self is Split.LIKELY and needs_two_facts(question))


def needs_two_facts(question: str) -> bool:
    """Whether a question describes something without naming it, or compares two things that it names."""
    asked = len(_ASKS.findall(question)) + len(_RELATES.findall(question))
    return asked > 1 or _ASKS_LAST.search(question) is not None or _compares(question)


def second_search(question: str, found: Passage) -> str:
    """What to search for next: the question's words that the best passage lacks, and the names that it brings; empty for none.

    When it lacks nothing of the question, one fact was enough.
    """
    chunk = found.chunk
    text = " ".join((*chunk.headings, chunk.text))
    asked, told = stems(question), stems(text)
    if asked <= told:
        return ""
    open_words = [word for word in question.split() if stems(word) and not stems(word) <= told]
    new_names = [name for name in names(text) if not stems(name) <= asked]
    return " ".join([*open_words, *new_names[:MAX_NAMES]])


def merged(first: Sequence[Passage], second: Sequence[Passage], limit: int) -> tuple[Passage, ...]:
    """The passages of both searches in turns, each once, the best of the first search first: each turn brings a new one."""
    taken: dict[str, Passage] = {}
    rests = [deque(first), deque(second)]
    while any(rests):
        for rest in rests:
            while rest and rest[0].chunk.id in taken:
                rest.popleft()
            if rest:
                passage = rest.popleft()
                taken[passage.chunk.id] = passage
    return tuple(taken.values())[:limit]


def names(text: str) -> list[str]:
    """Runs of words with a capital or a digit, each once, in order: `King Charles III`, `University of Chicago`."""
    found: list[str] = []
    run: list[str] = []
    end = 0
    for word in _WORD.finditer(text):
        joins = bool(run) and text[end : word.start()] == " " and not _ENDS_SENTENCE.search(run[-1])
        if _is_capital(word.group()):
            if not joins:
                found, run = [*found, _name(run)], []
            run.append(word.group())
        elif joins and word.group() in _CONNECTORS:
            run.append(word.group())
        else:
            found, run = [*found, _name(run)], []
        end = word.end()
    return list(dict.fromkeys(name for name in [*found, _name(run)] if len(name) > _SHORTEST))


def _name(run: Sequence[str]) -> str:
    """Without the words at its ends that belong to the sentence, and not to the name."""
    words = list(run)
    while words and (words[0].casefold() in _NO_NAMES or words[0] in _CONNECTORS):
        words.pop(0)
    while words and words[-1] in _CONNECTORS:
        words.pop()
    name = " ".join(words).strip(".'’&–-")
    return "" if name.isdigit() else name


def _is_capital(word: str) -> bool:
    return word[0].isupper() or word[0].isdigit()


def _compares(question: str) -> bool:
    named = [name for part in re.split(r"\b(?:and|or)\b|,", question) for name in names(part)]
    joined = re.search(r"\b(?:and|or)\b", question) is not None
    asks = _COMPARES.search(question) is not None or re.match(_YES_OR_NO, question) is not None
    return joined and asks and len(named) > 1
