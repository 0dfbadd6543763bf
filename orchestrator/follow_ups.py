"""Makes a follow-up question one that stands alone, so that it can be searched for: by the model, or by a rule.

A model that is able (its template has a `rewrite`) is asked to, held to one line by a guidance. What it says is taken only
when it is a question and speaks of what was asked; in all other cases, and for small models, the rule joins the question to
those before it (`conversations.search_text`).
"""

from collections.abc import Sequence
from contextlib import aclosing

from mesh import logs
from mesh.errors import MurpheyError
from orchestrator.conversations import leans_back, search_text
from orchestrator.fencing import defused
from orchestrator.ports import Generator, Message, Model
from orchestrator.prompts import Template, Turn
from orchestrator.questions import Sampling
from orchestrator.words import stems

log = logs.get(__name__)

MAX_CHARACTERS, MAX_TOKENS, TIME_LIMIT_S = 400, 80, 5.0
_FORM = ("regex", r"[^\n?]{3,400}\?")
_TURNS = 3


class FollowUps:
    """Rewrites questions."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    async def stand_alone(self, question: str, history: Sequence[Turn], model: Model, template: Template) -> str:
        """The question as it can be understood without `history`; itself when it can be already. Never fails."""
        if not history or not leans_back(question):
            return question
        by_rule = search_text(question, [turn.question for turn in history])
        if not template.rewrite:
            return by_rule
        try:
            rewritten = await self._asked(question, history[-_TURNS:], model, template.rewrite)
        except MurpheyError as error:
            log.warning("question_not_rewritten", model=model.name, error=error.message)
            return by_rule
        return rewritten if _fits(rewritten, question, history) else by_rule

    async def _asked(self, question: str, history: Sequence[Turn], model: Model, template: str) -> str:
        said = "\n".join(
            f"Person: {defused(turn.question)}\nAssistant: {defused(turn.answer[:500])}" for turn in history
        )
        chat = (Message("user", template.format(history=said, question=defused(question))),)
        sampling = Sampling(max_tokens=MAX_TOKENS, temperature=0.0, guidance=_FORM, time_limit_s=TIME_LIMIT_S)
        async with aclosing(self._generator.stream(model.name, chat, sampling)) as stream:
            return " ".join("".join([piece async for piece in stream if isinstance(piece, str)]).split())


def _fits(rewritten: str, question: str, history: Sequence[Turn]) -> bool:
    """Whether it is a question made of what was said: a model that answers instead, or dreams, is not followed."""
    told = stems(" ".join([question, *(f"{turn.question} {turn.answer}" for turn in history)]))
    words = stems(rewritten)
    known = len(words & told) >= len(words) / 2
    return rewritten.endswith("?") and len(rewritten) <= MAX_CHARACTERS and bool(words) and known
