"""Generates text with the models it has loaded: chat template, admission, engines in processes of their own, streaming."""
