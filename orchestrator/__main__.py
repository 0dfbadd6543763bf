"""`python -m orchestrator` runs the service."""

from orchestrator.app import main

main()
