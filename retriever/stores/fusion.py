"""How many dense and sparse results are fused. The fusing happens inside Qdrant, by DBSF (distribution-based score fusion).

DBSF brings both kinds of score to mean and deviation before it adds them, so it keeps how much better a hit is; reciprocal
ranks do not. nDCG@10 on Cranfield with all-MiniLM-L6-v2: dense .428, BM25 .434, RRF .462 to .473 over k and weights,
DBSF .472 to .476 over depths of 20 to 200.
"""

MIN_CANDIDATES = 100


def candidates(limit: int) -> int:
    """Results of each kind that are fused for an answer of `limit`."""
    return max(MIN_CANDIDATES, 2 * limit)
