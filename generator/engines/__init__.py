"""Engines: what runs a model. Each lives in a child process of the generator (`worker.py`, `host.py`)."""
