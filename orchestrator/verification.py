"""Compares quotes with the stored text before they are sent: a citation that does not stand there is never sent."""

from enum import Enum

from mesh import logs
from mesh.errors import MurpheyError
from orchestrator.attribution import Support
from orchestrator.ports import Documents

log = logs.get(__name__)


class Verdict(Enum):
    """What became of a quote: it stands; the text there is another or gone; the stored text could not be read."""

    STANDS = "verified"
    DIFFERS = "mismatched"
    UNKNOWN = "unverified"


class Verifier:
    """Verifies the quotes of one answer. Each source is read once, when it is first cited."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._stored: dict[int, str | None] = {}
        self._reachable = True

    async def check(self, support: Support) -> Verdict:
        """Whether the quote stands in the stored text at its span. Never raises for a service that is down.

        When the stored text cannot be read once, the rest of this answer's quotes are not tried again.
        """
        source = support.source
        if source.number not in self._stored:
            if not self._reachable:
                return Verdict.UNKNOWN
            try:
                self._stored[source.number] = await self._documents.text(source.document, source.version, source.span)
            except MurpheyError as error:
                self._reachable = False
                log.warning("quotes_cannot_be_verified", document=source.document, error=error.message)
                return Verdict.UNKNOWN
        stored = self._stored[source.number]
        start, end = support.span.start - source.span.start, support.span.end - source.span.start
        if stored is not None and stored[start:end] == support.quote:
            return Verdict.STANDS
        log.warning("quote_does_not_stand", document=source.document, version=source.version, gone=stored is None)
        return Verdict.DIFFERS
