"""What a person thinks of an answer: kept with the answer, and gone with it. Nobody's words are trained on without consent."""

from dataclasses import dataclass
from datetime import datetime

from mesh.errors import InvalidInput

MAX_BETTER_CHARACTERS, MAX_COMMENT_CHARACTERS = 8_192, 2_000


@dataclass(frozen=True)
class Feedback:
    """`better_answer` is what should have been said, or empty. `training_consent` holds for the question, its sources and both
    answers; `comment` is for people only. The time is in UTC.
    """

    good: bool
    better_answer: str
    comment: str
    training_consent: bool
    create_time: datetime


def check(feedback: Feedback) -> None:
    """InvalidInput for texts that are too long."""
    for name, text, most in (
        ("better_answer", feedback.better_answer, MAX_BETTER_CHARACTERS),
        ("comment", feedback.comment, MAX_COMMENT_CHARACTERS),
    ):
        if len(text) > most:
            raise InvalidInput(
                f"{name} has {len(text):,} characters; at most {most:,} are taken.", field=f"feedback.{name}"
            )
