"""`murphey doctor --orphans`: shows what is left over in any store, or missing, and removes the first on request."""

from pathlib import Path

from ingest.cli_documents import ingest_stub
from mesh import terminal
from murphey.ingest.v1 import ingest_pb2 as pb

LOOK_TIMEOUT_S = 3600.0
_SENTENCES = {
    pb.ORPHAN_KIND_OBJECT: "a file of {amount} bytes belongs to no document",
    pb.ORPHAN_KIND_CHUNKS: "{amount} chunks belong to no document",
    pb.ORPHAN_KIND_INDEX: "an index that no job builds and that was never live",
    pb.ORPHAN_KIND_ROW: "a row belongs to no document",
    pb.ORPHAN_KIND_MISSING_OBJECT: "a document's file is missing: upload it again",
    pb.ORPHAN_KIND_MISSING_CHUNKS: "{amount} chunks of a document are missing: upload it again",
}


async def show_orphans(data: Path, target: str | None, remove: bool, as_json: bool) -> bool:
    """Prints them; True when nothing is wrong any more."""
    clean = True
    async with ingest_stub(data, target) as stub:
        async for response in stub.FindOrphans(pb.FindOrphansRequest(remove=remove), timeout=LOOK_TIMEOUT_S):
            if response.HasField("summary"):
                _show_summary(response.summary, as_json)
            else:
                clean = clean and response.orphan.removed
                _show(response.orphan, as_json)
    return clean


def _show(orphan: pb.Orphan, as_json: bool) -> None:
    if as_json:
        kind = pb.OrphanKind.Name(orphan.kind).removeprefix("ORPHAN_KIND_").lower()
        fields = {"name": orphan.name, "version": orphan.version, "amount": orphan.amount, "removed": orphan.removed}
        terminal.print_json({"kind": kind, **fields})
        return
    sentence = _SENTENCES[orphan.kind].format(amount=orphan.amount)
    version = f" ({orphan.version})" if orphan.version else ""
    terminal.out.print(f"{orphan.name}{version}: {sentence}{'; removed' if orphan.removed else ''}", markup=False)


def _show_summary(summary: pb.OrphanSummary, as_json: bool) -> None:
    looked = {"documents": summary.documents, "objects": summary.objects, "versions": summary.versions}
    if as_json:
        terminal.print_json({"looked_at": looked})
    else:
        terminal.console.print(
            ", ".join(f"{count} {name}" for name, count in looked.items()) + " looked at", markup=False
        )
