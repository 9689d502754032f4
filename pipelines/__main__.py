"""`python -m pipelines` and the command `rillet`."""

from pipelines.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
