"""Evaluation: measures retrieval and answers on a labelled set, through the running mesh, as its users reach it."""
