"""Models behind OpenAI-compatible HTTP servers: vLLM, trtllm-serve, OpenAI itself and others."""
