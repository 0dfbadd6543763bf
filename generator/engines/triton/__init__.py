"""Models behind NVIDIA Triton servers: TensorRT-LLM's `llmapi` model, its `ensemble` and BLS, and the vLLM backend."""
