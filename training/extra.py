"""What a command says where the extra `training` is not installed."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from mesh import terminal


@contextmanager
def installed() -> Iterator[None]:
    """Around imports: a package that is missing ends the command with what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        terminal.fail(
            f"{error.name} is not installed. Training needs more packages: pip install 'murphey[training]'", code=2
        )


def require(*modules: str) -> None:
    """Ends the command unless all modules can be imported."""
    with installed():
        for module in modules:
            importlib.import_module(module)
