"""Qdrant's engine embedded: a process of the retriever's for each index, because the engine works under Python's GIL.

`store` is the store that the retriever sees, `keeper` keeps the processes of one index, `process` talks to one, `engine` is
that process. In it, `index` is one index with its `shard`; `rebuild` has a copy optimized by `optimizer`, and a `successor`
in a new process takes the index over.
"""
