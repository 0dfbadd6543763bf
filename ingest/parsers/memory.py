"""How much memory a parser process may take beyond what it needs for itself."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATM = Path("/proc/self/statm")


class MemoryLimit:
    """Of this process, on Linux. It counts address space, which libraries map more of than they use."""

    def __init__(self, mebibytes: int) -> None:
        self.mebibytes = mebibytes

    def apply(self) -> None:
        """From now on no more than so much beyond what the process has taken; an allocation over it fails."""
        if _STATM.exists():
            taken = int(_STATM.read_text().split()[0]) * resource.getpagesize()
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (taken + self.mebibytes * 1024 * 1024, most))

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """No limit while something of our own is loaded, such as a model; what it takes is the process's own afterwards."""
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            yield
        finally:
            self.apply()
