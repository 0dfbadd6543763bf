"""How dense and sparse results become one ranking, the same in both stores; the fusing itself happens inside Qdrant."""

DENSE_WEIGHT, SPARSE_WEIGHT = 1.0, 1.0
RANK_CONSTANT = 60
MIN_CANDIDATES = 50


def candidates(limit: int) -> int:
    """How many results of each kind are fused for an answer of `limit`."""
    return max(MIN_CANDIDATES, 2 * limit)
