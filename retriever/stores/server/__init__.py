"""A Qdrant server or cluster, through its asyncio client."""
