"""Whole runs: one TOML file, all steps from text to a registered model, each left out while its inputs are unchanged."""
