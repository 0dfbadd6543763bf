"""Citations on the command line."""

from collections.abc import Iterable
from typing import Any

from rich.markup import escape

from mesh import place_messages
from mesh.terminal import out
from murphey.orchestrator.v1 import orchestrator_pb2 as pb


def list_citations(citations: Iterable[pb.Citation], title: str = "Citations") -> None:
    """What an answer rests on, below a title."""
    if citations:
        out.print(f"\n[bold]{title}[/bold]")
    for citation in citations:
        where = escape(place_messages.describe(citation.page, citation.place))
        place = f"{escape(citation.display_name)}{where}, characters {citation.span.start}-{citation.span.end}"
        how = " [dim](attributed by similarity)[/dim]" if citation.attributed else ""
        out.print(f"  {escape(f'[{citation.marker}]')} {place}{how}")
        out.print(f"      “{escape(' '.join(citation.quote.split()))}”")


def citation_json(citation: pb.Citation) -> dict[str, Any]:
    """A citation with the stable keys of the command line."""
    return {
        "marker": citation.marker,
        "document": citation.display_name,
        "page": citation.page or None,
        "start": citation.span.start,
        "end": citation.span.end,
        "quote": citation.quote,
        "attributed": citation.attributed,
        "document_name": citation.document,
        "place": place_messages.to_json(citation.place),
        "similarity": round(citation.similarity, 4),
    }
