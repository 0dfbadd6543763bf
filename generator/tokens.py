"""Prompts to token ids, in the server's process and in milliseconds: the model's own tokenizer and chat template.

The ids made here are what the engine is given, so that a count is exact. Text that a chat's messages bring is never read as
the model's control tokens: a document that contains `<|im_end|>` cannot end the turn it is quoted in.
"""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from generator.prepare import PreparedModel
from generator.requests import ChatMessage, Prompt, Role
from mesh.errors import InvalidInput, Overloaded

_INLINE_CHARACTERS = 2_000
"""A prompt up to this long is encoded on the event loop in about a millisecond; a longer one on a thread beside it."""
_TURN_CHARACTERS = 40
"""A message or a prompt without text takes as long as so many characters: a chat may have a hundred thousand of them."""
_MAX_WAITING = 256
T = TypeVar("T")
_MARK = "\ufdd0"
"""A Unicode noncharacter stands for a message's text while the template is rendered."""
_NO_WIDTH = "\N{WORD JOINER}"


class PromptTokenizer:
    """One model's tokenizer and chat template."""

    def __init__(self, model: PreparedModel) -> None:
        self._tokenizer = Tokenizer.from_file(str(model.tokenizer))
        self._plain = Tokenizer.from_file(str(model.tokenizer))
        self._plain.encode_special_tokens = True
        self._card = model.card
        self._template = _compile(model.card.chat_template) if model.card.chat_template else None
        specials = [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special]
        self._specials = re.compile("|".join(re.escape(token) for token in specials)) if specials else None
        begin = self._tokenizer.token_to_id(model.card.bos_token) if model.card.bos_token else None
        self._begins_by_itself = begin is not None and self._encode(self._tokenizer, "a", True)[:1] == [begin]
        self._thread = ThreadPoolExecutor(1, "tokenizer")
        self._waiting = 0

    async def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's token ids, with the special tokens that the model expects. InvalidInput when it is not a prompt."""
        return (await self._run([prompt], lambda one: self._ids(one, True)))[0]

    async def count(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each: a text without special tokens, a chat as rendered."""
        return await self._run(prompts, lambda one: len(self._ids(one, False)))

    async def as_text(self, prompt: Prompt) -> tuple[str, int]:
        """A chat as one text for a server that tokenizes it with the model's special tokens, and how many tokens it has there.

        There is no telling such a server what is not a control token: one that a message quotes gets a character without
        width into it, so that it is none. InvalidInput as `encode`.
        """
        return (await self._run([prompt], self._text))[0]

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, prompts: Sequence[Prompt], work: Callable[[Prompt], T]) -> list[T]:
        if (
            sum(characters(prompt) + _TURN_CHARACTERS * (1 + len(prompt.chat)) for prompt in prompts)
            <= _INLINE_CHARACTERS
        ):
            return [work(prompt) for prompt in prompts]
        if self._waiting >= _MAX_WAITING:
            raise Overloaded("Too many long prompts wait to be tokenized. Try again in a second.", retry_after_s=1.0)
        self._waiting += 1
        try:
            all_of_it = lambda: [work(prompt) for prompt in prompts]  # noqa: E731
            return await asyncio.get_running_loop().run_in_executor(self._thread, all_of_it)
        finally:
            self._waiting -= 1

    def _text(self, prompt: Prompt) -> tuple[str, int]:
        text = self.render([ChatMessage(message.role, self._defused(message.text)) for message in prompt.chat])
        if self._begins_by_itself:
            text = text.removeprefix(self._card.bos_token)  # or it would be there twice
        return text, len(self._encode(self._tokenizer, text, True))

    def _defused(self, text: str) -> str:
        return text if self._specials is None else self._specials.sub(lambda found: _split(found[0]), text)

    def _ids(self, prompt: Prompt, special: bool) -> list[int]:
        if not prompt.chat:
            return self._encode(self._tokenizer, prompt.text, special)
        if not self.quotes_control_tokens(prompt.chat):
            return self._encode(self._tokenizer, self.render(prompt.chat), False)
        return self._quoted_ids(prompt.chat)

    def quotes_control_tokens(self, chat: Sequence[ChatMessage]) -> bool:
        """Whether a message's text holds what would be a control token if it were the template's."""
        specials = self._specials
        return specials is not None and any(specials.search(message.text) for message in chat)

    def _quoted_ids(self, chat: Sequence[ChatMessage]) -> list[int]:
        """The template's own text may hold control tokens, the messages' texts are read as plain text."""
        marked = [ChatMessage(message.role, f"{_MARK}{index}{_MARK}") for index, message in enumerate(chat)]
        ids: list[int] = []
        for index, piece in enumerate(self.render(marked).split(_MARK)):
            if index % 2:
                ids += self._encode(self._plain, chat[int(piece)].text, False)
            else:
                ids += self._encode(self._tokenizer, piece, False)
        return ids

    def render(self, chat: Sequence[ChatMessage]) -> str:
        """The prompt's text, ending where the assistant is to speak. InvalidInput when the template refuses the chat."""
        if self._template is None:
            raise InvalidInput("The model has no chat template; send the prompt as text.", field="prompt.chat")
        messages = [{"role": message.role.value, "content": message.text} for message in chat]
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=True,
                bos_token=self._card.bos_token,
                eos_token=self._card.eos_token,
            )
        except jinja2.TemplateError as error:
            raise InvalidInput(f"The model's chat template refuses this chat: {error}", field="prompt.chat") from error

    @staticmethod
    def _encode(tokenizer: Tokenizer, text: str, special: bool) -> list[int]:
        """In a batch of one, which the library encodes without the GIL."""
        return tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids


def _split(token: str) -> str:
    return token[0] + _NO_WIDTH + token[1:] if len(token) > 1 else _NO_WIDTH


def check_chat(chat: Sequence[ChatMessage]) -> None:
    """InvalidInput when a system message is not the first."""
    for index, message in enumerate(chat):
        if message.role is Role.SYSTEM and index > 0:
            field = f"prompt.chat.messages[{index}].role"
            raise InvalidInput(f"{field} is system; only the first message may be.", field=field)


def characters(prompt: Prompt) -> int:
    """Of all its text."""
    return len(prompt.text) + sum(len(message.text) for message in prompt.chat)


def _compile(template: str) -> jinja2.Template:
    """With what templates on the hub rely on (transformers' `render_jinja_template` has the list)."""

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)
