"""Errors of the services behind, told in the words of the question that caused them."""

from mesh.errors import MurpheyError

_FIELDS = ("filter", "sampling", "collection", "model")
_RENAMED = {"name": "model"}
"""GetModel's only field."""


def named_in_question(error: MurpheyError) -> MurpheyError:
    """The same error, its field as the orchestrator's caller knows it: `sampling.top_k` -> `question.sampling.top_k`."""
    field = _RENAMED.get(error.field or "", error.field)
    if field is not None and field.split(".")[0].split("[")[0] in _FIELDS:
        return type(error)(error.message, field=f"question.{field}", retry_after_s=error.retry_after_s)
    return error
