"""Makes the prompt of one answer: chooses the template, keeps within the model's context, counts with its own tokenizer."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.errors import FailedPrecondition, InvalidInput
from orchestrator.packing import Budget, candidates, cost, first_choice, pack, single_source
from orchestrator.ports import Chat, Generator, Model
from orchestrator.prompts import Prompts, Template, Turn
from orchestrator.questions import Question, Sampling
from orchestrator.sources import Chunk, Passage, Source

TURN_TOKENS = 12
"""What a chat template puts around the two messages of an earlier turn, at most."""
SEPARATOR_TOKENS = 2
"""What stands between two sources."""
RESERVE_TOKENS = 16
"""Kept free: counts of parts do not add up to the count of the whole exactly."""
CLOSEST_CHARACTERS, CLOSEST_TOKENS = 400, 160
"""Kept for the words that a template points the model to: dense scripts have a token in 2.5 characters."""
LEAST_SOURCE_TOKENS = 64
CHARACTERS_A_TOKEN = 3
"""Where nothing is counted yet."""
DEFAULT_MAX_TOKENS = 512
_CACHED_COUNTS = 50_000


@dataclass(frozen=True)
class Frame:
    """The prompt without its sources: the earlier turns that it keeps, and the tokens that all of it takes."""

    model: Model
    template: Template
    question: str
    history: tuple[Turn, ...]
    tokens: int
    sampling: Sampling

    def chat(self, sources: Sequence[Source], closest: str) -> Chat:
        """The whole prompt. Of `closest` as much reaches it as is kept free for it."""
        return self.template.render(self.question, sources, self.history, closest[:CLOSEST_CHARACTERS])


class Prompter:
    """Makes prompts for the generator's models. Counts of chunks are remembered by chunk id."""

    def __init__(self, generator: Generator, prompts: Prompts) -> None:
        self._generator, self._prompts = generator, prompts
        self._counts: OrderedDict[tuple[str, str, str, str, str], int] = OrderedDict()

    def template(self, model: Model) -> Template:
        """The template that the model's prompts are made of."""
        return self._prompts.for_model(model.name)

    async def frame(self, model: Model, question: str, history: Sequence[Turn], sampling: Sampling) -> Frame:
        """The prompt's frame; of the earlier turns it keeps the latest that fit the template's budget for them."""
        template = self.template(model)
        turns = [f"{turn.question}\n{turn.answer}" for turn in history]
        bare, *counts = await self._generator.count_tokens(model.name, [template.render(question, ()), *turns])
        kept, tokens = 0, 0
        for count in reversed(counts):
            if tokens + count + TURN_TOKENS > template.history_tokens:
                break
            kept, tokens = kept + 1, tokens + count + TURN_TOKENS
        latest = tuple(history[len(history) - kept :])
        return Frame(model, template, question, latest, bare + tokens, sampling.over(template.sampling))

    async def pack(self, frame: Frame, passages: Sequence[Passage]) -> tuple[Source, ...]:
        """The numbered sources that fit into the prompt. InvalidInput when question and completion leave no room for any."""
        room, max_sources = _room(frame), frame.template.max_sources
        tokens = await self._count(frame, first := first_choice(passages, max_sources))
        if cost(first, tokens, SEPARATOR_TOKENS) > room:
            tokens = await self._count(frame, candidates(passages))
        sources = pack(passages, tokens, Budget(room, SEPARATOR_TOKENS, max_sources))
        if first and not sources:
            raise FailedPrecondition(
                f"No passage fits into the prompt: the smallest has {min(tokens.values())} tokens, and there is room for "
                f"{room}. Ask for fewer max_tokens, or ingest the documents in smaller chunks."
            )
        return sources

    async def _count(self, frame: Frame, chunks: Sequence[Chunk]) -> dict[str, int]:
        """Tokens of each chunk as a source, in at most one call."""
        model = frame.model
        keys = {
            chunk.id: (model.name, model.version, frame.template.version, chunk.version, chunk.id) for chunk in chunks
        }
        missing = [chunk for chunk in chunks if keys[chunk.id] not in self._counts]
        if missing:
            texts = [frame.template.render_source(single_source(chunk)) for chunk in missing]
            counts = await self._generator.count_tokens(model.name, texts)
            self._counts.update(zip((keys[chunk.id] for chunk in missing), counts, strict=True))
        found = {chunk.id: self._counts[keys[chunk.id]] for chunk in chunks}
        while len(self._counts) > _CACHED_COUNTS:
            self._counts.popitem(last=False)
        return found


def predicted_tokens(question: Question, template: Template) -> int:
    """What an answer may take of a model, before anything was looked up: the prompt's budget, the question, the completion."""
    completion = question.sampling.over(template.sampling).max_tokens or DEFAULT_MAX_TOKENS
    history = template.history_tokens if question.conversation else 0
    return template.source_tokens + history + len(question.text) // CHARACTERS_A_TOKEN + completion


def _room(frame: Frame) -> int:
    completion = frame.sampling.max_tokens or DEFAULT_MAX_TOKENS
    left = frame.model.context_tokens - completion - frame.tokens - RESERVE_TOKENS - CLOSEST_TOKENS
    if left < LEAST_SOURCE_TOKENS:
        raise InvalidInput(
            f"{frame.model.name} takes {frame.model.context_tokens} tokens in all; the question takes {frame.tokens} and "
            f"max_tokens {completion}, which leaves no room for sources. Ask for fewer max_tokens, or more briefly.",
            field="question.sampling.max_tokens",
        )
    return min(left, frame.template.source_tokens)
