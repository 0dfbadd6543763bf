"""Errors of the services behind, told in the words of the question that caused them."""

from mesh.errors import MurpheyError

_FIELDS = ("filter", "sampling", "collection", "model")


def named_in_question(error: MurpheyError) -> MurpheyError:
    """The same error, its field as the orchestrator's caller knows it: `sampling.top_k` -> `question.sampling.top_k`."""
    if error.field is not None and error.field.split(".")[0].split("[")[0] in _FIELDS:
        return type(error)(error.message, field=f"question.{error.field}", retry_after_s=error.retry_after_s)
    return error
