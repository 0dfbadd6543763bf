"""`python -m retriever`."""

from retriever.app import main

if __name__ == "__main__":
    main()
