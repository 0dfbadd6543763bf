"""Prompt templates: versioned files that say what the model is told, how it samples by default and how much it is given.

A template's version changes with its content, so that an answer can be traced to the words that produced it. The system
part comes first and never changes between questions, which lets the engine reuse its keys and values. Sources are fenced
as data; a fence inside of a document is defused (`fencing.py`).
"""

import hashlib
import importlib.resources
import string
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from mesh.errors import InvalidInput
from orchestrator.fencing import defused, defused_title
from orchestrator.ports import Chat, Message
from orchestrator.questions import Sampling
from orchestrator.sources import Source

_PLACEHOLDERS: dict[str, tuple[set[str], set[str]]] = {
    "source": ({"number", "text"}, {"title"}),
    "user": ({"sources", "question"}, {"closest"}),
    "unsupported": ({"quote", "number"}, set()),
    "closest": ({"quote", "number"}, set()),
    "rewrite": ({"history", "question"}, set()),
}
"""For each field the placeholders that it must have, and those that it may have."""


@dataclass(frozen=True)
class Turn:
    """An earlier question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Template:
    """One prompt.

    `version` is `name@hash`; `models` are the beginnings of the model ids it was made for. `examples` are turns that show
    a small model what is wanted; they stand before the conversation's own. `declined` is said when nothing relevant was
    found, `unsupported` when nothing that the model said is in the sources, and `closest`, unless it is empty, when the
    answer does not cite the words that fit the question best. `rewrite` asks the model to make a follow-up question stand
    alone; it is empty for models that cannot. Budgets are in tokens. `strict` holds for questions that do not say whether
    sentences without support are withheld.
    """

    version: str
    models: tuple[str, ...]
    system: str
    examples: tuple[Turn, ...]
    source: str
    user: str
    declined: str
    unsupported: str
    closest: str
    rewrite: str
    max_sources: int
    source_tokens: int
    history_tokens: int
    best_source_last: bool
    strict: bool
    sampling: Sampling

    def render(self, question: str, sources: Sequence[Source], history: Sequence[Turn] = (), closest: str = "") -> Chat:
        """The chat: system, examples, earlier turns, then the sources and the question.

        `closest` are the words of the sources that fit the question best, for templates that point small models to them.
        """
        ordered = list(reversed(sources)) if self.best_source_last else sources
        fenced = "\n".join(self.render_source(source) for source in ordered)
        user = self.user.format(sources=fenced, question=defused(question), closest=defused(closest))
        earlier = [message for turn in (*self.examples, *history) for message in _messages(turn)]
        return (Message("system", self.system), *earlier, Message("user", user))

    def render_source(self, source: Source) -> str:
        """A source as the model sees it."""
        title = " > ".join((source.display_name, *source.headings))
        text = "\n".join(part for part in (source.place.table_header, source.text) if part)
        return self.source.format(number=source.number, title=defused_title(title), text=defused(text))


class Prompts:
    """The templates, chosen by model."""

    def __init__(self, templates: Sequence[Template]) -> None:
        self._templates = templates

    def for_model(self, name: str) -> Template:
        """The template made for `models/{model}`: the one with the longest matching beginning."""
        model = name.removeprefix("models/").casefold()
        fitting = [
            (len(start), template)
            for template in self._templates
            for start in template.models
            if model.startswith(start)
        ]
        return max(fitting, key=lambda pair: pair[0])[1]


def load_prompts() -> Prompts:
    """Reads the templates beside this module; InvalidInput for one that misses or misspells something."""
    folder = importlib.resources.files("orchestrator") / "templates"
    files = sorted((path for path in folder.iterdir() if path.name.endswith(".toml")), key=lambda path: path.name)
    return Prompts(
        [parse_template(path.name.removesuffix(".toml"), path.read_text(encoding="utf-8")) for path in files]
    )


def parse_template(name: str, text: str) -> Template:
    """A template from the text of its file."""
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"The prompt template {name} is not valid TOML: {error}") from error
    needed = {field.name for field in fields(Template)} - {"version"}
    if values.keys() != needed:
        wrong = ", ".join(sorted(values.keys() ^ needed))
        raise InvalidInput(f"The prompt template {name} misses or misspells: {wrong}.")
    for field, (needs, may_have) in _PLACEHOLDERS.items():
        if values[field]:
            _check_placeholders(name, field, values[field], needs, may_have)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    defaults: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values["sampling"].items()}
    made = {
        "version": f"{name}@{digest}",
        "models": tuple(values["models"]),
        "examples": tuple(Turn(**example) for example in values["examples"]),
        "sampling": Sampling(**defaults),
    }
    return Template(**(values | made))


def _messages(turn: Turn) -> tuple[Message, Message]:
    return Message("user", defused(turn.question)), Message("assistant", defused(turn.answer, keep_markers=True))


def _check_placeholders(name: str, field: str, template: str, needs: set[str], may_have: set[str]) -> None:
    found = {placeholder for _, placeholder, _, _ in string.Formatter().parse(template) if placeholder is not None}
    if not needs <= found <= needs | may_have:
        raise InvalidInput(
            f"{field!r} of the prompt template {name} has the placeholders {sorted(found)}; it needs {sorted(needs)}"
            + (f" and may have {sorted(may_have)}." if may_have else ".")
        )
