"""`python -m bench`: runs one benchmark."""

from bench.cli import main

main()
