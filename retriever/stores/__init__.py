"""Where chunks are kept: Qdrant's engine in this process, or a Qdrant server, behind one protocol."""
