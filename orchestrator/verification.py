"""Compares quotes with the stored text before they are sent: a citation that does not stand there is never sent."""

from dataclasses import dataclass
from enum import Enum

from mesh import logs
from mesh.errors import MurpheyError
from mesh.places import NOWHERE, Place
from orchestrator.attribution import Support
from orchestrator.ports import Documents, StoredText
from orchestrator.sources import Span

log = logs.get(__name__)


class Verdict(Enum):
    """What became of a quote: it stands; the text there is another or gone; the stored text could not be read."""

    STANDS = "verified"
    DIFFERS = "mismatched"
    UNKNOWN = "unverified"


@dataclass(frozen=True)
class Checked:
    """A verdict, and the page that the quote begins on where it stands."""

    verdict: Verdict
    page: int = 0
    place: Place = NOWHERE


class Verifier:
    """Verifies the quotes of one answer. Each place is read once."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._stored: dict[tuple[int, Span], StoredText | None] = {}
        self._reachable = True

    async def check(self, support: Support) -> Checked:
        """Whether the quote stands in the stored text at its span. Never raises for a service that is down.

        When the stored text cannot be read once, the rest of this answer's quotes are not tried again.
        """
        source, place = support.source, (support.source.number, support.span)
        if place not in self._stored:
            if not self._reachable:
                return Checked(Verdict.UNKNOWN)
            try:
                self._stored[place] = await self._documents.text(source.document, source.version, support.span)
            except MurpheyError as error:
                self._reachable = False
                log.warning("quotes_cannot_be_verified", document=source.document, error=error.message)
                return Checked(Verdict.UNKNOWN)
        stored = self._stored[place]
        if stored is not None and stored.text == support.quote:
            return Checked(Verdict.STANDS, stored.page, stored.place)
        log.warning("quote_does_not_stand", document=source.document, version=source.version, gone=stored is None)
        return Checked(Verdict.DIFFERS)
