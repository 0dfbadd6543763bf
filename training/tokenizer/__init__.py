"""Makes tokenizers: byte-level BPE with chat tokens, in Hugging Face's form, checked before it is handed on."""
