"""Prepares collected text: keeps what is good and there once, masks what is personal, leaves out what is evaluated on.

Built on datatrove, whose executors run it on this machine, on Slurm or on Ray.
"""
