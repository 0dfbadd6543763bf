"""How commands of this room say what is wrong: with what they were given (exit code 2), or with the rest (1)."""

from collections.abc import Callable
from typing import TypeVar

from mesh import terminal
from mesh.errors import FailedPrecondition, InvalidInput, MurpheyError, NotFound

Result = TypeVar("Result")


def checked(work: Callable[[], Result]) -> Result:
    """The result of `work`; an error of mesh.errors ends the command with one line."""
    try:
        return work()
    except (InvalidInput, NotFound, FailedPrecondition) as error:
        terminal.fail(error.message, code=2)
    except MurpheyError as error:
        terminal.fail(error.message)
