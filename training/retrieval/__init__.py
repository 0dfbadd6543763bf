"""Training of retrieval models: the embedder, by contrast, and a cross-encoder that reranks."""
