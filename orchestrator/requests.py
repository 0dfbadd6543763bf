"""Messages of callers, checked in form and turned into the domain's questions."""

import math
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from mesh.cache_messages import to_use
from mesh.errors import InvalidInput
from mesh.names import collection_id, resource_id
from murphey.generator.v1 import sampling_pb2
from murphey.orchestrator.v1 import orchestrator_pb2
from orchestrator.conversations import MAX_TITLE_CHARACTERS
from orchestrator.feedback import Feedback, check
from orchestrator.questions import Question, Sampling


def read_question(message: orchestrator_pb2.Question) -> Question:
    """InvalidInput for names that are none; the rest is checked by `questions.check`."""
    return Question(
        text=message.text,
        collection=f"collections/{collection_id(message.collection, 'question.collection')}",
        conversation=read_conversation(message.conversation, "question.conversation") if message.conversation else "",
        search_filter=message.filter.SerializeToString(deterministic=True),
        passage_limit=message.passage_limit if message.HasField("passage_limit") else None,
        model=message.model,
        sampling=_sampling(message.sampling),
        strict=message.strict if message.HasField("strict") else None,
        split=message.split if message.HasField("split") else None,
        use=to_use(message.cache, "question.cache"),
    )


def read_conversation(name: str, field: str = "name") -> str:
    """The id in `conversations/{id}`."""
    return resource_id(name, "conversations", field)


def read_answer(name: str) -> str:
    """The id in `answers/{id}`."""
    return resource_id(name, "answers")


def read_model(name: str) -> str:
    """`models/{model}` as it is, or nothing."""
    if name:
        resource_id(name, "models", "model")
    return name


def read_title(title: str) -> str:
    """A conversation's title, white space squeezed."""
    if len(title) > MAX_TITLE_CHARACTERS:
        raise InvalidInput(
            f"The title has {len(title)} characters; at most {MAX_TITLE_CHARACTERS} are taken.", field="title"
        )
    return " ".join(title.split())


def read_feedback(message: orchestrator_pb2.Feedback) -> Feedback:
    """What is said of an answer, now. InvalidInput without a rating, or for texts that are too long."""
    if message.rating not in (orchestrator_pb2.RATING_GOOD, orchestrator_pb2.RATING_BAD):
        raise InvalidInput("The feedback has no rating: say RATING_GOOD or RATING_BAD.", field="feedback.rating")
    feedback = Feedback(
        message.rating == orchestrator_pb2.RATING_GOOD,
        message.better_answer.strip(),
        message.comment.strip(),
        message.training_consent,
        datetime.now(UTC),
    )
    check(feedback)
    return feedback


def _sampling(params: sampling_pb2.SamplingParams) -> Sampling:
    given = {field.name: value for field, value in params.ListFields()}
    names = {field.name for field in fields(Sampling)} & given.keys() - {"guidance"}
    scalars: dict[str, Any] = {name: given[name] for name in names}
    lists: dict[str, Any] = {
        name: tuple(given[name]) for name in ("stop", "stop_token_ids", "bad_words") if name in given
    }
    kind = params.guidance.WhichOneof("kind")
    guidance = (kind, getattr(params.guidance, kind)) if kind else None
    time_limit_s = _seconds(params) if params.HasField("time_limit") else None
    return Sampling(**(scalars | lists), guidance=guidance, time_limit_s=time_limit_s)


def _seconds(params: sampling_pb2.SamplingParams) -> float:
    """NaN, which no range allows, for a duration that is none."""
    duration = params.time_limit
    return duration.seconds + duration.nanos / 1e9 if abs(duration.seconds) < 1e11 else math.nan
