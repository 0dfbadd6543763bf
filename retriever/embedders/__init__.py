"""Embedding models: OpenVINO on CPU, torch on CUDA."""
