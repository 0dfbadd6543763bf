"""`python -m ingest` runs the service."""

from ingest.app import main

main()
