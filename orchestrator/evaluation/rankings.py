"""Scores of one ranking of documents, by ir_measures: as BEIR and trec_eval count them."""

from collections.abc import Mapping, Sequence

import ir_measures
from ir_measures import AP, RR, Qrel, R, ScoredDoc, nDCG

_MEASURES = {
    "ndcg_binary@10": nDCG @ 10,
    "recall@5": R @ 5,
    "recall@10": R @ 10,
    "recall@100": R @ 100,
    "mrr@10": RR @ 10,
    "map": AP,
}
_ONLY = "q"


def ranking_scores(relevant: Mapping[str, int], ranking: Sequence[str]) -> dict[str, float]:
    """Scores of a ranking, the best document first.

    `ndcg@10` counts a document by its grade; all others count one of 1 and more as relevant, and no other. `complete@5`
    and `@10` are 1 when all relevant documents are among so many. At least one grade must be 1 or more.
    """
    run = [ScoredDoc(_ONLY, document, -float(rank)) for rank, document in enumerate(ranking)]
    binary = [Qrel(_ONLY, document, int(grade >= 1)) for document, grade in relevant.items()]
    graded = [Qrel(_ONLY, document, max(0, grade)) for document, grade in relevant.items()]
    scored = ir_measures.calc_aggregate(list(_MEASURES.values()), binary, run)
    scores = {"ndcg@10": float(ir_measures.calc_aggregate([nDCG @ 10], graded, run)[nDCG @ 10])}
    scores |= {name: float(scored[measure]) for name, measure in _MEASURES.items()}
    needed = {document for document, grade in relevant.items() if grade >= 1}
    return scores | {f"complete@{first}": float(needed <= set(ranking[:first])) for first in (5, 10)}
