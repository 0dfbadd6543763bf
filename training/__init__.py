"""Makes models: collects and prepares text, trains on it, measures the result, and exports it for the generator."""
